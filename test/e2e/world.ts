/**
 * A lab with accelproxy on one of its hosts, for end-to-end tests: real kernels, a real network in between,
 * the built program as a process of its own.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Host, Lab, type LabOptions } from "../../bench/lab/lab.ts";
import type { Status } from "../../proxy/status.ts";
import { build } from "../../scripts/build.mjs";

const root = new URL("../../", import.meta.url);
const START_LIMIT_MS = 15_000;

/** The engine's driver that this run of the file is about; see test/run-file.ts. */
export const driver =
  process.argv.find((argument) => argument.startsWith("--driver="))?.slice("--driver=".length) ?? "auto";

/** Takes away what eBPF needs, as a prefix: handshakes are heard with a raw socket then. */
export const RAW_HEARING: readonly string[] = ["setpriv", "--bounding-set", "-bpf,-sys_admin", "--"];

/** A line of the proxy's log. */
export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface ProxyOptions {
  readonly host?: string;
  readonly args?: readonly string[];
  /** Of the program, if it is not to run the proxy alone. */
  readonly command?: readonly string[];
  /** Command put in front, for example setpriv with its arguments. */
  readonly prefix?: readonly string[];
  /** The message to wait for, instead of its listeners. */
  readonly until?: string;
}

/** A running accelproxy. */
export class ProxyProcess {
  readonly child: ChildProcess;
  readonly log: LogLine[] = [];
  readonly stderr: string[] = [];
  readonly adminSocket: string;
  /** Of the process that runs now: another one after upgrade(). */
  pid: number;
  #code: number | null | undefined;

  constructor(child: ChildProcess, adminSocket: string) {
    this.child = child;
    this.adminSocket = adminSocket;
    this.pid = child.pid ?? 0;
    createInterface({ input: child.stdout! }).on("line", (line) => {
      if (line.startsWith("{")) this.log.push(JSON.parse(line) as LogLine);
      else this.stderr.push(line);
    });
    createInterface({ input: child.stderr! }).on("line", (line) => this.stderr.push(line));
    child.once("exit", (code) => {
      this.#code = code;
    });
  }

  /** Port of a listener, from its listening line. */
  port(listener: string): number {
    const line = this.log.find(({ msg, listener: name }) => msg === "listening" && name === listener);
    if (!line) throw new Error(`no listening line for ${listener}`);
    return Number(String(line.address).replace(/^.*:/, ""));
  }

  /** Resolves when `found` returns something truthy; rejects with the log after `limitMs`. */
  async until<T>(
    what: string,
    found: () => T | Promise<T>,
    limitMs = START_LIMIT_MS,
  ): Promise<NonNullable<T>> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const value = await found();
      if (value) return value;
      if (this.#code !== undefined && this.pid === this.child.pid)
        throw new Error(`${what}: proxy exited with ${this.#code}\n${this.#story()}`);
      if (performance.now() > deadline)
        throw new Error(`${what}: not within ${limitMs} ms\n${this.#story()}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Lines of the log with this message. */
  said(message: string): LogLine[] {
    return this.log.filter(({ msg }) => msg === message);
  }

  status(): Promise<Status> {
    return this.#get("/status").then((text) => JSON.parse(text) as Status);
  }

  metrics(): Promise<string> {
    return this.#get("/metrics");
  }

  async ready(limitMs = START_LIMIT_MS): Promise<void> {
    await this.until(
      "ready",
      () =>
        this.#get("/readyz").then(
          () => true,
          () => false,
        ),
      limitMs,
    );
  }

  /** Has a new process take over, and resolves with its line about that. */
  async upgrade(): Promise<LogLine> {
    const taken = this.said("took over").length;
    process.kill(this.pid, "SIGUSR2");
    const given = this.said("upgraded: a new process has everything").length;
    const from = this.pid;
    const line = await this.until("upgraded", () => this.said("took over")[taken]);
    const told = await this.until(
      "told so",
      () => this.said("upgraded: a new process has everything")[given],
    );
    this.pid = Number(told.pid);
    await this.until("the old process ended", () => !isAlive(from));
    return line;
  }

  /** Resolves with the exit code when it has ended by itself, null when a signal ended it. */
  async ended(): Promise<number | null> {
    if (this.#code === undefined) await once(this.child, "exit");
    return this.#code ?? null;
  }

  /** Sends a signal and resolves with the exit code, null when the signal ended it. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (this.pid !== this.child.pid) {
      process.kill(this.pid, signal);
      await this.until("the process ended", () => !isAlive(this.pid));
      return null;
    }
    if (this.#code !== undefined) return this.#code;
    this.child.kill(signal);
    const [code] = (await once(this.child, "exit")) as [number | null];
    return code;
  }

  #get(path: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: this.adminSocket, path }, (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          if (response.statusCode === 200) resolve(text);
          else reject(new Error(`${path}: ${response.statusCode} ${text}`));
        });
      });
      asked.on("error", reject);
      asked.end();
    });
  }

  #story(): string {
    return [...this.log.map((line) => JSON.stringify(line)), ...this.stderr].join("\n");
  }
}

/** False for one that has ended, also when nobody waited for it. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** A lab and what runs in it; close() ends all of it. */
export class World implements AsyncDisposable {
  readonly lab: Lab;
  readonly folder: string;
  /** How many proxies were started: the newest one is proxyCOUNT. */
  count = 0;

  private constructor(lab: Lab, folder: string) {
    this.lab = lab;
    this.folder = folder;
  }

  static async create(options?: LabOptions): Promise<World> {
    build();
    const folder = await mkdtemp(join(tmpdir(), "accelproxy-test-"));
    return new World(await Lab.create(options), folder);
  }

  get near(): Host {
    return this.lab.host("near");
  }

  get far(): Host {
    return this.lab.host("far");
  }

  /**
   * Starts accelproxy with this configuration (YAML; an admin socket is added) and waits for its listeners.
   * With `listeners: 0` it does not wait.
   */
  async proxy(
    config: string,
    { host = "near", args = [], command = [], prefix = [], until = "listening" }: ProxyOptions = {},
  ): Promise<ProxyProcess> {
    const name = `proxy${++this.count}`;
    const admin = join(this.folder, `${name}.sock`);
    const file = join(this.folder, `${name}.yaml`);
    const withDriver = /^driver:/m.test(config) ? "" : `driver: ${driver}\n`;
    await writeFile(file, `${config}\nadmin: { bind: "unix:${admin}" }\n${withDriver}`);
    const program = new URL("dist/proxy/cli.js", root).pathname;
    const line = [...prefix, process.execPath, program, ...command, "--config", file, ...args];
    const child = this.lab.host(host).spawn(line[0]!, line.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
    const proxy = new ProxyProcess(child, admin);
    const times = until === "listening" ? (config.match(/\bbind:/g) ?? []).length : 1;
    await proxy.until(until, () => proxy.said(until).length >= times);
    return proxy;
  }

  /** Runs a TypeScript program of the tests in a host. */
  program(host: string, script: URL, args: readonly string[] = []): ChildProcess {
    const preload = new URL("scripts/typescript.mjs", root).href;
    return this.lab.host(host).spawn(process.execPath, ["--import", preload, script.pathname, ...args], {
      stdio: ["pipe", "pipe", "inherit", "ipc"],
    });
  }

  async close(): Promise<void> {
    await this.lab.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
