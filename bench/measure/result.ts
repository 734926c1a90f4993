/** The result file of a benchmark: what was measured, where, and every sample. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem } from "node:os";
import { dirname } from "node:path";
import { root } from "../root.ts";
import type { Row } from "./compare.ts";

/** Something that was not measured, and why: a peer that is not installed, for example. */
export interface Skipped {
  readonly what: string;
  readonly why: string;
}

export interface BenchResult {
  readonly name: string;
  /** Fewer rounds and cases, for a first look. */
  readonly quick: boolean;
  /** ISO 8601, when it ended. */
  readonly date: string;
  readonly durationSeconds: number;
  /** "-dirty" follows when the sources had changes. */
  readonly commit: string;
  readonly kernel: string;
  readonly cpu: string;
  readonly node: string;
  /** Versions of the peers measured. */
  readonly peers: Readonly<Record<string, string>>;
  readonly sysctls: Readonly<Record<string, string>>;
  readonly skipped: readonly Skipped[];
  readonly rows: readonly Row[];
}

/** Kernel parameters that a comparison of TCP connections may hang on. */
const SYSCTLS = [
  "net.ipv4.tcp_congestion_control",
  "net.ipv4.tcp_fastopen",
  "net.ipv4.tcp_max_syn_backlog",
  "net.ipv4.tcp_rmem",
  "net.ipv4.tcp_sack",
  "net.ipv4.tcp_slow_start_after_idle",
  "net.ipv4.tcp_syncookies",
  "net.ipv4.tcp_timestamps",
  "net.ipv4.tcp_tw_reuse",
  "net.ipv4.tcp_wmem",
  "net.ipv4.ip_local_port_range",
  "net.core.somaxconn",
] as const;

/** The machine and the state of the sources; sysctls are those of the calling thread's network namespace. */
export function describeMachine(): Pick<BenchResult, "commit" | "kernel" | "cpu" | "node" | "sysctls"> {
  const [first] = cpus();
  return {
    commit: commit(),
    kernel: release(),
    cpu: `${availableParallelism()} × ${first?.model.trim() ?? "?"}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    node: process.version,
    sysctls: Object.fromEntries(SYSCTLS.map((name) => [name, readSysctl(name)])),
  };
}

/** Writes a result as JSON, one row a line. Makes the folder. */
export function writeResult(file: string, result: BenchResult): void {
  const { rows, ...head } = result;
  const lines = rows.map((row) => `  ${JSON.stringify(row)}`).join(",\n");
  const text = JSON.stringify({ ...head, rows: [] }, undefined, 1);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${text.replace(/"rows": \[\]\n\}$/, `"rows": [\n${lines}\n ]\n}`)}\n`);
}

/** Throws when the file is missing or is not a result. */
export function readResult(file: string): BenchResult {
  const result = JSON.parse(readFileSync(file, "utf8")) as Partial<BenchResult>;
  if (typeof result.name !== "string" || !Array.isArray(result.rows)) {
    throw new Error(`${file} is not the result of a benchmark`);
  }
  return result as BenchResult;
}

function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync("git", args, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const changed = git(
      "status",
      "--porcelain",
      "--",
      "native",
      "pool",
      "proxy",
      "config",
      "bench/benchmarks",
    );
    return `${git("rev-parse", "HEAD")}${changed === "" ? "" : "-dirty"}`;
  } catch {
    return "unknown";
  }
}

function readSysctl(name: string): string {
  try {
    return readFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, "utf8")
      .trim()
      .replaceAll("\t", " ");
  } catch {
    return "–";
  }
}
