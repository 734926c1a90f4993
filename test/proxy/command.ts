import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The command line as a user runs it, built: from source a start takes seconds on a busy machine. */

const root = fileURLToPath(new URL("../..", import.meta.url));
export const COMMAND: readonly string[] = [process.execPath, "dist/proxy/cli.js"];

/** A prefix that takes root and every capability away. */
export const UNPRIVILEGED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/** A prefix that runs `code` in the main thread of the proxy or in its other threads, from the start of each. */
export function withCode(where: "isMainThread" | "!isMainThread", code: string): string[] {
  const text = `import { isMainThread } from "node:worker_threads"; if (${where}) { ${code} }`;
  return ["env", `NODE_OPTIONS=--import=data:text/javascript;base64,${Buffer.from(text).toString("base64")}`];
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ending>;
  #stdout = "";
  #stderr = "";

  /** `passed` are descriptors it gets at 3 and up. */
  constructor(args: readonly string[], prefix: readonly string[] = [], passed: readonly number[] = []) {
    const [program = "", ...rest] = [...prefix, ...COMMAND, ...args];
    this.child = spawn(program, rest, { cwd: root, stdio: ["ignore", "pipe", "pipe", ...passed] });
    running.add(this.child);
    this.child.stdout?.setEncoding("utf8").on("data", (text) => {
      this.#stdout += text;
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text) => {
      this.#stderr += text;
    });
    this.ended = once(this.child, "close").then(([code, signal]) => {
      running.delete(this.child);
      return { code, signal, stdout: this.#stdout, stderr: this.#stderr };
    });
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** The log so far: every whole line of stdout that is JSON. */
  get log(): Record<string, unknown>[] {
    const lines = this.#stdout.split("\n").slice(0, -1);
    return lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  }

  /** The first log line with this message, as soon as it is there. Rejects when the process ends without. */
  async logged(msg: string, count = 1): Promise<Record<string, unknown>> {
    const deadlineMs = performance.now() + 30_000;
    for (;;) {
      const found = this.log.filter((line) => line.msg === msg)[count - 1];
      if (found !== undefined) return found;
      if (this.child.exitCode !== null || this.child.signalCode !== null || performance.now() > deadlineMs) {
        throw new Error(`no "${msg}" in:\n${this.#stdout}${this.#stderr}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

/** Runs to the end. */
export function runCommand(args: readonly string[], prefix: readonly string[] = []): Promise<Ending> {
  return new Running(args, prefix).ended;
}

const folder = mkdtempSync(join(tmpdir(), "accelproxy-command-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** A path in a folder of this test, which goes when the test ends. */
export function pathOf(name: string): string {
  return join(folder, name);
}

/** Writes a file there and returns its path. */
export function fileOf(name: string, text: string): string {
  writeFileSync(pathOf(name), text, { mode: 0o644 });
  return pathOf(name);
}
