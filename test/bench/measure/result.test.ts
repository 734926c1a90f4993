// Goal: a result file has the shape of the contract and comes back as it was written; a table shows what is in it.
// Method: one small result, written, read and printed.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readResult, writeResult } from "../../../bench/measure/result.ts";
import { formatRows } from "../../../bench/measure/rows.ts";
import { formatNumber, formatTable, markdownTable } from "../../../bench/measure/table.ts";
import { smallResult } from "../small-result.ts";

const files = suite<{ folder: string }>("result file");
files.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "accelproxy-test-"));
});
files.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

files("given a result, then it comes back from its file", ({ folder }) => {
  const file = join(folder, "deeper", "latency.json");
  writeResult(file, smallResult);
  assert.equal(readResult(file), smallResult);
});
files("given a result, then it has every field of the contract, and a line for each row", ({ folder }) => {
  const file = join(folder, "latency.json");
  writeResult(file, smallResult);
  const text = readFileSync(file, "utf8");
  const parsed = JSON.parse(text) as Record<string, unknown> & { rows: Record<string, unknown>[] };
  for (const key of ["name", "commit", "kernel", "cpu", "sysctls", "rows"]) assert.ok(key in parsed, key);
  for (const key of ["case", "metric", "unit", "samples", "median", "ratioTo", "ratio"]) {
    assert.ok(
      parsed.rows.every((row) => key in row),
      key,
    );
  }
  assert.is(text.split("\n").filter((line) => line.includes('"case"')).length, smallResult.rows.length);
});
files("given a result without rows, then it is valid too", ({ folder }) => {
  const file = join(folder, "rate.json");
  writeResult(file, { ...smallResult, rows: [] });
  assert.equal(readResult(file).rows, []);
});
files("given another JSON file, then it is refused", ({ folder }) => {
  const file = join(folder, "other.json");
  writeFileSync(file, "{}");
  assert.throws(() => readResult(file), /not the result of a benchmark/);
});

const tables = suite("tables");
tables("given rows, then a line per variant with percentiles, ratios and later metrics", () => {
  const [head = "", ...lines] = formatRows(smallResult.rows).split("\n");
  assert.match(head, /^RTT 40 ms.*first byte, ms: p50 +p90 +p99 +ratio +interval +hit rate, %$/);
  assert.is(lines.length, 3);
  assert.match(lines[1] ?? "", /^accelproxy +41\.0 +42\.0 +42\.0 +0\.509 +0\.500–0\.519 +100$/);
  assert.match(lines[2] ?? "", /^nginx http, keepalive +40\.\d .* –$/);
});
tables("given cells, then columns line up", () => {
  assert.is(
    formatTable(
      ["name", "n"],
      [
        ["a", "100"],
        ["long name", "1"],
      ],
    ),
    "name         n\na          100\nlong name    1",
  );
});
tables("given cells, then a table of Markdown", () => {
  assert.is(markdownTable(["a", "b"], [["1", "2"]]), "| a | b |\n| --- | ---: |\n| 1 | 2 |");
});
for (const [value, want] of [
  [0, "0"],
  [0.12345, "0.123"],
  [1.2345, "1.23"],
  [12.345, "12.3"],
  [12_345.6, "12,346"],
  [null, "–"],
  [undefined, "–"],
  [Number.NaN, "–"],
] as const) {
  tables(`given ${value}, then ${want}`, () => assert.is(formatNumber(value), want));
}

files.run();
tables.run();
