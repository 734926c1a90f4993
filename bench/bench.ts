/**
 * The benchmarks' command line: `npm run bench -- NAME`. Exit 0 when all that was asked for was measured, 1 when
 * something did not work, 2 for wrong usage, 77 when this machine cannot run a lab, 130 after Ctrl-C.
 */
import { spawnSync } from "node:child_process";
import { constants } from "node:os";
import { resolve } from "node:path";
import { type BenchmarkName, parseCommand, USAGE } from "./arguments.ts";
import { http } from "./benchmarks/http.ts";
import { latency } from "./benchmarks/latency.ts";
import { pool } from "./benchmarks/pool.ts";
import { rate } from "./benchmarks/rate.ts";
import { repair } from "./benchmarks/repair.ts";
import { throughput } from "./benchmarks/throughput.ts";
import { BenchContext, type Benchmark } from "./context.ts";
import { LabError } from "./lab/lab.ts";
import { describeMachine, writeResult } from "./measure/result.ts";
import { formatRows } from "./measure/rows.ts";
import { root } from "./root.ts";

const EXIT = { good: 0, failed: 1, usage: 2, unavailable: 77 } as const;
const BENCHMARKS: Readonly<Record<BenchmarkName, Benchmark>> = {
  latency,
  rate,
  http,
  throughput,
  pool,
  repair,
};

async function runBenchmark(benchmark: Benchmark, quick: boolean, file: string): Promise<void> {
  const startedAt = performance.now();
  const context = await BenchContext.create(quick);
  const stop = (signal: NodeJS.Signals): void => {
    void context.close().then(() => process.exit(128 + constants.signals[signal]));
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.once(signal, stop);
  try {
    const rows = await benchmark.run(context);
    const durationSeconds = Math.round((performance.now() - startedAt) / 1e3);
    const { skipped, peers } = context;
    const { name } = benchmark;
    const date = new Date().toISOString();
    writeResult(file, { name, quick, date, durationSeconds, ...describeMachine(), peers, skipped, rows });
    process.stdout.write(`${formatRows(rows)}\n`);
    for (const { what, why } of skipped) process.stdout.write(`skipped: ${what}: ${why}\n`);
    process.stdout.write(`${name}: ${rows.length} rows in ${durationSeconds} s, written to ${file}\n`);
  } finally {
    await context.close();
    for (const signal of signals) process.removeListener(signal, stop);
  }
}

async function main(): Promise<number> {
  const command = parseCommand(process.argv.slice(2));
  switch (command.kind) {
    case "help":
      process.stdout.write(USAGE);
      return EXIT.good;
    case "wrong":
      process.stderr.write(`bench: ${command.problem}\n${USAGE}`);
      return EXIT.usage;
    case "report": {
      // Only the report needs the plot library.
      const { writeReport } = await import("./report/report.ts");
      for (const file of await writeReport()) process.stdout.write(`${file}\n`);
      return EXIT.good;
    }
    case "run":
      if (process.geteuid?.() !== 0) return runInUserNamespace();
      for (const name of command.names) {
        const file = resolve(command.json ?? `${root}bench/results/${name}.json`);
        await runBenchmark(BENCHMARKS[name], command.quick, file);
      }
      return EXIT.good;
    default: {
      const unreachable: never = command;
      return unreachable;
    }
  }
}

/** An ordinary user gets the rights to make a network from a user namespace of his own. */
function runInUserNamespace(): number {
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const { status, signal, error } = spawnSync("unshare", ["-Urn", ...command], { stdio: "inherit" });
  if (error === undefined && status !== null) return status;
  if (signal !== null) return 128 + constants.signals[signal];
  process.stderr.write(`bench: unshare: ${error?.message} (install util-linux, or run this as root)\n`);
  return EXIT.unavailable;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  process.stderr.write(`bench: ${error.message}\n`);
  const isUnavailable = error instanceof LabError && error.code === "ACCEL_LAB_UNAVAILABLE";
  process.exitCode = isUnavailable ? EXIT.unavailable : EXIT.failed;
}
