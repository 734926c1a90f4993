import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checkRow, fileRows, judge, type Result, runRow } from "./run-file.ts";

/**
 * Goal: no broken test file counts as passed. Method: real files of one fault each, run as the runner runs them;
 * the first ones are the faults after which uvu 0.5.6 exits 0.
 */
const uvu = new URL("../node_modules/uvu/dist/index.mjs", import.meta.url).href;
const root = fileURLToPath(new URL("..", import.meta.url));

const files = suite<{ folder: string }>("run-file: a test file");
files.before((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "accelproxy-run-"));
  writeFileSync(join(context.folder, "package.json"), `{ "type": "module" }\n`);
});
files.after(({ folder }) => rmSync(folder, { recursive: true }));

async function runSource(folder: string, source: string, skipsFail = false): Promise<Result> {
  const path = join(folder, "sample.test.ts");
  writeFileSync(path, source);
  process.chdir(root); // `--import ./scripts/typescript.mjs` resolves from the working directory
  return runRow(fileRows(path)[0]!, skipsFail);
}

const header = `import { suite } from "${uvu}";\nconst s = suite("s");\n`;
const good = `s("good", () => {});\n`;
files(
  "given drivers or a wish to be alone in its head, then rows say so, and only the first five lines count",
  ({ folder }) => {
    const path = join(folder, "drivers.test.ts");
    const line = "// drivers: io_uring, epoll\n";
    writeFileSync(path, `// deadline: 7s\n${line}`);
    const rows = fileRows(path);
    assert.equal(
      rows.map(({ name, deadlineMs, command }) => [name, deadlineMs, command.at(-1)]),
      ["io_uring", "epoll"].map((driver) => [`${path} on ${driver}`, 7_000, `--driver=${driver}`]),
    );
    assert.ok(rows.every(({ isAlone }) => !isAlone));
    writeFileSync(path, `// alone\n${"\n".repeat(4)}${line}`);
    assert.equal(
      fileRows(path).map(({ isAlone }) => isAlone),
      [true],
    );
  },
);

for (const [given, body, passed, failed, problem] of [
  ["two good tests", `${good}${good}s.run();`, 2, 0, undefined],
  ["a failing test", `${good}s("bad", () => { throw new Error("x"); });\ns.run();`, 1, 1, /1 of 2 failed/],
  ["a throwing before", `s.before(() => { throw new Error("x"); });\n${good}s.run();`, 0, 1, /1 of 1 failed/],
  [
    "a throwing after.each",
    `s.after.each(() => { throw new Error("x"); });\n${good}s.run();`,
    0,
    1,
    /1 of 1 failed/,
  ],
  ["a test that throws a string", `${good}s("bad", () => { throw "x"; });\ns.run();`, 1, 1, /1 of 2 failed/],
  ["no .run()", good, 0, 1, /without totals/],
  ["no tests", "s.run();", 0, 1, /no tests/],
  ["a syntax error", "s(;", 0, 1, /without totals/],
  ["an exit in a test", `s("exit", () => process.exit(0));\ns.run();`, 0, 1, /without totals/],
  ["a test that never settles", `s("stuck", () => new Promise(() => {}));\ns.run();`, 0, 1, /without totals/],
  ["an error after the tests", `${good}s.run();\nprocess.on("exit", () => process.exit(3));`, 1, 1, /exit 3/],
] as const) {
  files(
    `given ${given}, then ${problem === undefined ? "it passes" : `it fails: ${problem.source}`}`,
    async (context) => {
      const result = await runSource(context.folder, header + body);
      assert.equal([result.passed, result.failed, result.skipped], [passed, failed, 0], result.output);
      if (problem === undefined) assert.is(result.problem, undefined);
      else assert.match(result.problem ?? "", problem);
    },
  );
}

files("given a skipped test, then it counts as skipped, and in CI as failed", async ({ folder }) => {
  const source = `${header}${good}s.skip("later", () => {});\ns.run();`;
  const here = await runSource(folder, source);
  assert.equal([here.passed, here.failed, here.skipped, here.problem], [1, 0, 1, undefined]);
  const inCi = await runSource(folder, source, true);
  assert.equal([inCi.passed, inCi.failed, inCi.skipped], [1, 1, 0]);
});

files("given a deadline of 1 s, then the file and its children are killed", async ({ folder }) => {
  const source = `// deadline: 1s\n${header}import { spawn } from "node:child_process";
s("stuck", () => {
  console.log("child", spawn("sleep", ["60"]).pid);
  return new Promise((resolve) => setTimeout(resolve, 60_000));
});\ns.run();`;
  const result = await runSource(folder, source);
  assert.is(result.problem, "still running after 1 s");
  const pid = Number(/child (\d+)/.exec(result.output)?.[1]);
  assert.ok(pid > 0, result.output);
  assert.ok(await ends(pid), "the child outlived its deadline");
});

files("given a child left behind, then it is killed when the file ends", async ({ folder }) => {
  const source = `${header}import { spawn } from "node:child_process";
s("leaves", () => {
  const child = spawn("sleep", ["60"], { stdio: "inherit" });
  console.log("child", child.pid);
  child.unref();
});\ns.run();`;
  const result = await runSource(folder, source);
  assert.is(result.problem, undefined, result.output);
  assert.ok(result.elapsedMs < 30_000);
  assert.ok(await ends(Number(/child (\d+)/.exec(result.output)?.[1])), "the child outlived the file");
});
files.run();

/**
 * Waits for the end of a killed process: its descriptors close a moment before it is gone, and an orphan stays a
 * zombie for as long as its new parent takes. False when it still lives after 2 s.
 */
async function ends(pid: number): Promise<boolean> {
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      if (/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, "utf8"))) return true;
    } catch {
      return true;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

const checks = suite("run-file: a check");
for (const [given, command, problem] of [
  ["exit 0", ["true"], undefined],
  ["exit 1", ["false"], "exit 1"],
  ["a signal", ["sh", "-c", "kill -TERM $$"], "ended by SIGTERM"],
  ["a command that does not exist", ["/nonexistent"], "exit -2"],
] as const) {
  checks(`given ${given}, then ${problem ?? "it passes"}`, async () => {
    const result = await runRow(checkRow("check", command), true);
    assert.is(result.problem, problem);
    assert.equal([result.passed, result.failed], problem === undefined ? [1, 0] : [0, 1]);
  });
}

checks("given totals printed by a test itself, then uvu's own, which come last, count", () => {
  const totals = (passed: number) => `\n  Total:     2\n  Passed:    ${passed}\n  Skipped:   0\n`;
  const ending = { code: 0, signal: null, isLate: false, output: totals(2) + totals(1) };
  const row = { ...checkRow("x", ["true"]), kind: "file" } as const;
  assert.is(judge(row, ending, false).failed, 1);
});
checks.run();
