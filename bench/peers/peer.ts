/** A proxy that a benchmark compares: started on a host of the lab in front of one origin. */
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Host } from "../lab/lab.ts";
import { root } from "../root.ts";

export interface PeerOptions {
  readonly host: Host;
  /** For configuration and runtime files; the caller removes it. */
  readonly folder: string;
  /** Where the proxy listens, on 127.0.0.1. */
  readonly port: number;
  readonly origin: { readonly host: string; readonly port: number };
  /** Threads or processes that carry traffic. */
  readonly workers: number;
}

/** How sessions came by their upstream connections, since the start. */
export interface PoolCounts {
  readonly hits: number;
  readonly misses: number;
  readonly replays: number;
}

export interface RunningPeer {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
  /** Only of accelproxy. */
  readonly counts?: () => Promise<PoolCounts>;
  stop(): Promise<void>;
}

export interface Peer {
  readonly name: string;
  /** Why it cannot run here, or undefined. */
  missing(): string | undefined;
  /** Its version, in a few words. */
  version(): string;
  /** Starts it; resolves when it accepts connections. Rejects when it does not. */
  start(options: PeerOptions): Promise<RunningPeer>;
}

const START_LIMIT_MS = 15_000;
const STOP_LIMIT_MS = 3_000;
const POLL_MS = 20;

/** Writes a configuration from a template of this folder, `${NAME}` replaced, and returns its path. */
export async function writeConfig(
  { folder, port, origin, workers }: PeerOptions,
  template: string,
  values: Readonly<Record<string, string | number>> = {},
): Promise<string> {
  const text = await readFile(join(root, "bench/peers", template), "utf8");
  const all: Readonly<Record<string, string | number>> = {
    FOLDER: folder,
    LISTEN: `127.0.0.1:${port}`,
    ORIGIN: `${origin.host}:${origin.port}`,
    WORKERS: workers,
    ...values,
  };
  const filled = text.replaceAll(/\$\{([A-Z_]+)\}/g, (_, name: string) => {
    const value = all[name];
    if (value === undefined) throw new Error(`${template} names \${${name}}, which has no value`);
    return String(value);
  });
  const path = join(folder, `${port}-${template}`);
  await writeFile(path, filled);
  return path;
}

/** Resolves when a process listens on a port; rejects with what it said when it ends or takes too long. */
export async function untilListening(name: string, child: ChildProcess, port: number): Promise<void> {
  const said: string[] = [];
  child.stderr?.on("data", (chunk: Buffer) => said.push(chunk.toString()));
  let problem: string | undefined;
  child.once("error", (error) => {
    problem = error.message;
  });
  const deadline = performance.now() + START_LIMIT_MS;
  for (;;) {
    if (child.exitCode !== null || child.signalCode !== null) problem ??= `ended with ${child.exitCode}`;
    if (performance.now() > deadline) problem ??= "does not listen";
    if (problem !== undefined) throw new Error(`${name}: ${problem}\n${said.join("")}`);
    if (child.pid !== undefined && listens(child.pid, port)) return;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Ends a process and waits for it. */
export async function stopProcess(child: ChildProcess, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill(signal);
  const killer = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
  await ended;
  clearTimeout(killer);
}

/** Debian keeps haproxy and nginx where an ordinary user's PATH does not look. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/** Whether somebody in this process's network namespace listens on an IPv4 port. */
function listens(pid: number, port: number): boolean {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`;
  try {
    return readFileSync(`/proc/${pid}/net/tcp`, "latin1").includes(local);
  } catch {
    return false; // gone: the caller sees that itself
  }
}
