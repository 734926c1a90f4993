/** Starts the programs of this folder on hosts of a lab, from the sources or from dist/. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { extname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Host } from "../lab/lab.ts";
import type { LoadOptions, LoadResult, Sample } from "./generator.ts";

/** Young objects of a whole run fit: hardly a pause for garbage. What the warm-up left is collected before. */
const FLAGS = ["--max-semi-space-size=64", "--expose-gc"];

/**
 * Starts a program with this process's way of running TypeScript, its input and output piped. `program` is a URL, or
 * a path from this folder, without the extension.
 */
export function startProgram(host: Host, program: string | URL, args: readonly string[]): ChildProcess {
  // The same kind of file as this one: TypeScript in the sources, JavaScript in dist/.
  const script = new URL(`${program}${extname(import.meta.url)}`, import.meta.url);
  const command = [...process.execArgv, ...FLAGS, fileURLToPath(script), ...args];
  return host.spawn(process.execPath, command, { stdio: ["pipe", "pipe", "inherit"] });
}

/** Starts an origin on all addresses of a host; resolves when it listens. Rejects when it ends before. */
export async function startOrigin(host: Host, port: number): Promise<ChildProcess> {
  const child = startProgram(host, "./origin", ["--port", String(port)]);
  const listening = once(child.stdout!, "data");
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`the origin ended with ${code}`);
  });
  await Promise.race([listening, ended]);
  ended.catch(() => {});
  return child;
}

/** Runs a load from a host to its end. Rejects when the generator fails; failed requests are in the result. */
export async function runLoadOn(
  host: Host,
  options: LoadOptions,
  onSample?: (target: string, sample: Sample) => void,
): Promise<LoadResult> {
  const { targets, rate, durationMs, later = [], size, seed, timeoutMs } = options;
  const args = [
    ...targets.flatMap(({ name, host: to, port, fastOpen }) => [
      "--target",
      `${name}=[${to}]:${port}${fastOpen ? "?fastopen" : ""}`,
    ]),
    ...later.flatMap((phase) => ["--later", `${phase.rate}:${phase.durationMs / 1e3}`]),
    ...Object.entries({ rate, duration: durationMs / 1e3, size, seed, timeout: timeoutMs / 1e3 }).flatMap(
      ([name, value]) => [`--${name}`, String(value)],
    ),
    ...(onSample ? ["--stream"] : []),
  ];
  const child = startProgram(host, "./load", args);
  const ended = once(child, "close");
  let result: LoadResult | undefined;
  for await (const text of createInterface({ input: child.stdout! })) {
    const line = JSON.parse(text) as LoadResult | { target: string; sample: Sample };
    if ("samples" in line) result = line;
    else onSample?.(line.target, line.sample);
  }
  const [code] = await ended;
  if (result === undefined || code !== 0) throw new Error(`the load generator ended with ${code}`);
  return result;
}

/**
 * Runs a program on a host to its end and returns what it printed, a JSON value a line. `script` is without its
 * extension. Rejects when it fails.
 */
export async function runJsonLines(
  host: Host,
  script: string | URL,
  args: readonly string[],
): Promise<unknown[]> {
  const child = startProgram(host, script, args);
  const ended = once(child, "close");
  const values: unknown[] = [];
  for await (const line of createInterface({ input: child.stdout! })) values.push(JSON.parse(line));
  const [code] = await ended;
  if (code !== 0) throw new Error(`${script} ended with ${code}`);
  return values;
}

export interface Transferred {
  readonly bytes: number;
  readonly seconds: number;
  /** CPU time of the client's process meanwhile. */
  readonly cpuUs: number;
}

export type Direction = "down" | "up";

export interface TransferOptions {
  readonly port: number;
  readonly direction: Direction;
  readonly length: number;
  readonly streams: number;
  /** How often each stream moves `length` bytes; once unless told. */
  readonly turns?: number;
  /** Compares every byte with bodyOf(). */
  readonly check?: boolean;
}

/** Moves bodies between a host and a server on it at 127.0.0.1. Rejects when one was not whole or wrong. */
export async function transferOn(
  host: Host,
  { port, direction, length, streams, turns = 1, check = false }: TransferOptions,
): Promise<Transferred> {
  const args = ["127.0.0.1", port, direction, length, streams, turns, ...(check ? ["check"] : [])];
  const [transferred] = await runJsonLines(host, "./transfer", args.map(String));
  return transferred as Transferred;
}
