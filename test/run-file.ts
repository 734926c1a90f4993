import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

/**
 * One row of a test run: a command in a process group of its own, with a deadline, and what came of it.
 *
 * uvu 0.5.6 exits 0 when `before` or `after.each` throws, when a test throws a non-Error and when `.run()` is
 * missing. So a test file's exit code is not enough: its totals have to add up as well (judge()).
 */
export interface Row {
  readonly name: string;
  readonly command: readonly string[];
  readonly deadlineMs: number;
  /** Measures time or fills the machine: nothing may run beside it. */
  readonly isAlone: boolean;
  /** Test files report totals; a check is one test, passed when it exits 0. */
  readonly kind: "file" | "check";
}

export interface Result {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Why the row failed, in words; undefined when it passed. */
  readonly problem: string | undefined;
  readonly output: string;
  readonly elapsedMs: number;
}

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly isLate: boolean;
  readonly output: string;
}

const FILE_DEADLINE_MS = 240_000;
const CHECK_DEADLINE_MS = 180_000;
const OUTPUT_BYTES_MAX = 4 << 20;
/** How long after a process ended its output may stay open in a descendant that left the group. */
const DRAIN_MS = 1_000;

const running = new Set<ChildProcess>();

/** A row for a check: `command` passes when it exits 0. */
export function checkRow(name: string, command: readonly string[]): Row {
  return { name, command, deadlineMs: CHECK_DEADLINE_MS, isAlone: false, kind: "check" };
}

/**
 * The rows of a test file, run as `node --import ./scripts/typescript.mjs FILE` behind `prefix`. In its first five
 * lines a file may state a deadline of its own, `// deadline: 120s`, and that it runs once for each of several drivers
 * of the engine, `// drivers: io_uring, epoll`, which it gets as `--driver=NAME`; and that nothing may run beside
 * it, `// alone`.
 */
export function fileRows(path: string, prefix: readonly string[] = []): Row[] {
  const head = readFileSync(path, "utf8").split("\n", 5).join("\n");
  const seconds = /^\/\/ deadline: (\d+)s$/m.exec(head)?.[1];
  const drivers = /^\/\/ drivers: (.+)$/m.exec(head)?.[1]?.split(", ") ?? [undefined];
  return drivers.map((driver) => ({
    name: driver === undefined ? path : `${path} on ${driver}`,
    command: [
      ...[...prefix, process.execPath, "--import", "./scripts/typescript.mjs", path],
      ...(driver === undefined ? [] : [`--driver=${driver}`]),
    ],
    deadlineMs: seconds === undefined ? FILE_DEADLINE_MS : Number(seconds) * 1000,
    isAlone: /^\/\/ alone$/m.test(head),
    kind: "file",
  }));
}

/**
 * The command that gives a test file a network namespace of its own with lo up: as root `unshare -n` (BPF maps
 * need real root), else `unshare -rn`. Undefined where neither is permitted.
 */
export function netnsPrefix(): readonly string[] | undefined {
  for (const flags of ["-n", "-rn"]) {
    const prefix = ["unshare", flags, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
    if (spawnSync("unshare", [...prefix.slice(1), "true"]).status === 0) return prefix;
  }
  return undefined;
}

/**
 * Runs a row to its end. At the deadline the whole process group is killed; what a finished process leaves behind
 * in its group is killed too. With `skipsFail` every skipped test counts as failed.
 */
export async function runRow(row: Row, skipsFail: boolean): Promise<Result> {
  const startedAtMs = performance.now();
  const ending = await run(row);
  const elapsedMs = Math.round(performance.now() - startedAtMs);
  return { ...judge(row, ending, skipsFail), output: ending.output, elapsedMs };
}

/** Kills every process group that is still running. */
export function killAll(): void {
  for (const child of running) killGroup(child);
}

function run(row: Row): Promise<Ending> {
  const [command = "", ...args] = row.command;
  const { FORCE_COLOR: _, ...env } = process.env;
  return new Promise((resolve) => {
    const child = spawn(command, args, { detached: true, env, stdio: ["ignore", "pipe", "pipe"] });
    running.add(child);
    const chunks: Buffer[] = [];
    let bytes = 0;
    let isLate = false;
    const keep = (chunk: Buffer): void => {
      chunks.push(chunk);
      bytes += chunk.length;
      // uvu's totals come last, so the oldest output is what may go.
      while (bytes > OUTPUT_BYTES_MAX && chunks.length > 1) bytes -= chunks.shift()?.length ?? 0;
    };
    child.stdout.on("data", keep);
    child.stderr.on("data", keep);
    const deadline = setTimeout(() => {
      isLate = true;
      killGroup(child);
    }, row.deadlineMs);
    child.on("error", (error) => keep(Buffer.from(`${error.message}\n`)));
    child.on("exit", () => {
      killGroup(child);
      setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, DRAIN_MS).unref();
    });
    child.on("close", (code, signal) => {
      clearTimeout(deadline);
      running.delete(child);
      resolve({ code, signal, isLate, output: Buffer.concat(chunks).toString("utf8") });
    });
  });
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch (error) {
    // Nobody is left in the group: what we wanted.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

/**
 * What an ending means. A file passes when it exits 0 and uvu's totals say that all its tests passed, at least
 * one of them not empty. uvu leaves skipped tests out of its total. A file that crashed or lost tests without
 * saying which counts as one failed test.
 */
export function judge(
  row: Row,
  ending: Ending,
  skipsFail: boolean,
): Pick<Result, "passed" | "failed" | "skipped" | "problem"> {
  const bad = (problem: string, passed = 0, failed = 1, skipped = 0) => ({
    passed,
    failed,
    skipped,
    problem,
  });
  if (ending.isLate) return bad(`still running after ${row.deadlineMs / 1000} s`);
  if (row.kind === "check") {
    return ending.code === 0
      ? { passed: 1, failed: 0, skipped: 0, problem: undefined }
      : bad(exitText(ending));
  }
  const totals = readTotals(ending.output);
  if (totals === undefined) return bad(`${exitText(ending)} without totals: a crash, or .run() is missing`);
  const { total, passed, skipped } = totals;
  if (passed < total) return bad(`${total - passed} of ${total} failed`, passed, total - passed, skipped);
  if (ending.code !== 0) return bad(`${exitText(ending)} after its tests passed`, passed, 1, skipped);
  if (total + skipped === 0) return bad("no tests");
  if (skipped > 0 && skipsFail) return bad(`${skipped} skipped, which CI forbids`, passed, skipped);
  return { passed, failed: 0, skipped, problem: undefined };
}

function exitText(ending: Ending): string {
  return ending.signal === null ? `exit ${ending.code}` : `ended by ${ending.signal}`;
}

/** The last totals in uvu's format, for a test may itself print such lines. */
function readTotals(output: string): { total: number; passed: number; skipped: number } | undefined {
  const plain = output.replaceAll(new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, "g"), "");
  const matches = [...plain.matchAll(/^ {2}Total: +(\d+)\n {2}Passed: +(\d+)\n {2}Skipped: +(\d+)$/gm)];
  const last = matches.at(-1);
  if (last === undefined) return undefined;
  return { total: Number(last[1]), passed: Number(last[2]), skipped: Number(last[3]) };
}
