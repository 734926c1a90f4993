/** accelproxy with config/demo.yaml on a host of the lab, as a user would run it: the built program, its log, its status. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Status } from "../proxy/status.ts";
import type { Host } from "./lab/lab.ts";

// As config/demo.yaml has them.
export const ORIGIN_PORT = 8080;
export const LISTENER = { host: "127.0.0.1", port: 8001 } as const;
const ADMIN = "127.0.0.1:9901";

const START_LIMIT_MS = 15_000;
const POLL_MS = 200;
const WARN = 40;

/** The repository's folder, from the sources or from dist/. */
export const root = new URL(extname(import.meta.url) === ".ts" ? "../" : "../../", import.meta.url);
const program = fileURLToPath(new URL("dist/proxy/cli.js", root));
const configFile = fileURLToPath(new URL("config/demo.yaml", root));

type Pool = Status["pools"][number];

export class DemoProxy {
  readonly #host: Host;
  readonly #process: ChildProcess;

  private constructor(host: Host, child: ChildProcess) {
    this.#host = host;
    this.#process = child;
  }

  /** Resolves when it listens; `warn` gets what it logs as a warning or worse. Rejects when it ends or is late. */
  static async start(host: Host, warn: (line: string) => void): Promise<DemoProxy> {
    const child = host.spawn(process.execPath, [program, "--config", configFile], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const listening = new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stdout! }).on("line", (text) => {
        const { level, msg } = JSON.parse(text) as { level: number; msg: string };
        if (msg === "listening") resolve();
        if (level >= WARN) warn(`accelproxy: ${text}`);
      });
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`accelproxy ended with ${code} before it listened`)));
    });
    await within(listening, "accelproxy does not listen");
    return new DemoProxy(host, child);
  }

  /** Waits until the pool holds what it wants; returns its state then. Rejects when that takes too long. */
  filled(): Promise<Pool> {
    const isFilled = async (): Promise<Pool> => {
      for (;;) {
        const pool = await this.pool();
        if (pool.halfOpen > 0 && pool.halfOpen >= pool.target) return pool;
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    };
    return within(isFilled(), "accelproxy's pool does not fill");
  }

  /** What `accelproxy status` says of the pool. */
  async pool(): Promise<Pool> {
    const args = [program, "status", "--admin", ADMIN, "--json"];
    const { stdout, stderr } = await this.#host.run(process.execPath, args);
    if (stdout === "") throw new Error(`accelproxy status: ${stderr.trim()}`);
    const [pool] = (JSON.parse(stdout) as Status).pools;
    if (pool === undefined) throw new Error("accelproxy has no pool");
    return pool;
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
  }
}

function within<T>(work: Promise<T>, problem: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${problem} within ${START_LIMIT_MS} ms`)), START_LIMIT_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
