import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { checkRow, fileRows, killAll, netnsPrefix, type Result, type Row, runRow } from "./run-file.ts";

/**
 * The test run: build, checks, then every test file in a process of its own.
 *
 *   node --import ./scripts/typescript.mjs test/run.ts [--timings] [FILTER ...]
 *
 * A FILTER is a part of a path; with filters the checks are left out. Files run two at a time: first what needs
 * nothing but a processor, then those under test/netns, test/library, test/lab and test/e2e, which mostly wait.
 * Those that measure time or fill the machine say so in their head (`// alone`) and come last, one at a time, those for
 * several drivers once for each, side by side. Every file prints a line, a failed one also its output; the last line is `N passed, N failed, N skipped` and nothing else.
 * Exit 0 only when something ran and nothing failed. With CI=true a skipped test is a failure.
 */

const PARALLEL_MAX = 2;
const WAITING = ["test/netns/", "test/library/", "test/lab/", "test/e2e/"];
const OWN_NAMESPACE = ["test/netns/", "test/library/"];

const bin = (name: string): string => join("node_modules/.bin", name);
const BUILD = checkRow("build", [process.execPath, "scripts/build.mjs"]);
const CHECKS = [
  checkRow("types", [bin("tsc"), "-p", "."]),
  checkRow("types of the page's script", [bin("tsc"), "-p", "proxy/admin/page"]),
  checkRow("format and lint", [bin("biome"), "check", "."]),
  checkRow("dead code", [bin("knip")]),
];

interface Report {
  readonly row: Row;
  readonly result: Result;
}

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
for (const [signal, number] of [
  ["SIGHUP", 1],
  ["SIGINT", 2],
  ["SIGTERM", 15],
] as const) {
  process.on(signal, () => {
    killAll();
    console.log(`stopped by ${signal}`);
    process.exit(128 + number);
  });
}
process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  const withTimings = args.includes("--timings");
  const filters = args.filter((arg) => arg !== "--timings");
  const skipsFail = !["", "0", "false"].includes(process.env.CI ?? "");
  const paths = testFiles(filters);
  if (paths.length === 0) {
    console.log(`no test file matches ${filters.join(", ") || "*.test.ts"}\n\n0 passed, 0 failed, 0 skipped`);
    return 1;
  }

  const reports = await runRows([BUILD], 1, skipsFail);
  const prefix = paths.some(needsNamespace) ? netnsPrefix() : [];
  const able = paths.filter((path) => !needsNamespace(path) || prefix !== undefined);
  const rows = able.map((path) => fileRows(path, needsNamespace(path) ? prefix : []));
  const together = rows.filter(([row]) => !row!.isAlone);
  reports.push(
    ...(await runRows([...(filters.length > 0 ? [] : CHECKS), ...together.flat()], PARALLEL_MAX, skipsFail)),
  );
  for (const own of rows) {
    if (own[0]!.isAlone) reports.push(...(await runRows(own, own.length, skipsFail)));
  }
  for (const path of paths) if (!able.includes(path)) reports.push(withoutNamespace(path, skipsFail));

  if (withTimings) printTimings(reports);
  return printTotals(reports);
}

function testFiles(filters: readonly string[]): string[] {
  return readdirSync("test", { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".test.ts"))
    .map((path) => join("test", path))
    .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
    .sort((a, b) => Number(isBusy(b)) - Number(isBusy(a)) || a.localeCompare(b));
}

/** What keeps a processor busy goes first, what waits for the network afterwards. */
function isBusy(path: string): boolean {
  return !WAITING.some((folder) => path.startsWith(folder));
}

function needsNamespace(path: string): boolean {
  return OWN_NAMESPACE.some((folder) => path.startsWith(folder));
}

/** Runs rows in order, at most `parallelMax` at a time, and prints each as it ends. */
async function runRows(rows: readonly Row[], parallelMax: number, skipsFail: boolean): Promise<Report[]> {
  const reports: Report[] = [];
  const waiting = rows.values();
  const lane = async (): Promise<void> => {
    for (const row of waiting) {
      const report = { row, result: await runRow(row, skipsFail) };
      reports.push(report);
      print(report);
    }
  };
  await Promise.all(Array.from({ length: parallelMax }, lane));
  return reports;
}

/** A netns file on a machine that gives us no namespace. How many tests it has is not known: one skip. */
function withoutNamespace(path: string, skipsFail: boolean): Report {
  const reason = "no network namespace: needs CAP_SYS_ADMIN or unprivileged user namespaces";
  const counts = skipsFail
    ? { failed: 1, skipped: 0, problem: "1 skipped, which CI forbids" }
    : { failed: 0, skipped: 1, problem: undefined };
  const row = checkRow(path, []);
  const report = { row, result: { passed: 0, ...counts, output: `skipped: ${reason}\n`, elapsedMs: 0 } };
  print(report);
  return report;
}

function print({ row, result }: Report): void {
  const { passed, failed, skipped, problem, output, elapsedMs } = result;
  const counts = [`${passed} passed`];
  if (failed > 0) counts.push(`${failed} failed`);
  if (skipped > 0) counts.push(`${skipped} skipped`);
  const verdict = problem === undefined ? "ok    " : "FAILED";
  const ending = problem === undefined ? "" : `  (${problem})`;
  console.log(`${verdict} ${row.name}  ${counts.join(", ")}  ${elapsedMs} ms${ending}`);
  if (problem !== undefined) console.log(indent(output.split("\n")));
  else if (skipped > 0) console.log(indent(output.split("\n").filter((line) => /\bskip/.test(line))));
}

function indent(lines: readonly string[]): string {
  return lines
    .map((line) => `    ${line}`.trimEnd())
    .join("\n")
    .trimEnd();
}

function printTimings(reports: readonly Report[]): void {
  console.log("\nslowest first:");
  for (const { row, result } of reports.toSorted((a, b) => b.result.elapsedMs - a.result.elapsedMs)) {
    console.log(`${String(result.elapsedMs).padStart(8)} ms  ${row.name}`);
  }
}

function printTotals(reports: readonly Report[]): number {
  const sum = (count: "passed" | "failed" | "skipped"): number =>
    reports.reduce((total, { result }) => total + result[count], 0);
  const failures = reports.filter(({ result }) => result.problem !== undefined);
  if (failures.length > 0) console.log("\nfailed:");
  for (const { row, result } of failures) console.log(`  ${row.name}: ${result.problem}`);
  console.log(`\n${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`);
  return failures.length > 0 || sum("passed") === 0 ? 1 : 0;
}
