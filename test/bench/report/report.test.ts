// Goal: the report comes from result files alone, says first where we lose, and its plots are SVG that shows every
// variant. Method: a small result rendered into a folder, read back.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { rowsOf } from "../../../bench/measure/compare.ts";
import { writeResult } from "../../../bench/measure/result.ts";
import { lossesOf } from "../../../bench/report/losses.ts";
import { plotsOf } from "../../../bench/report/plots.ts";
import { writeReport } from "../../../bench/report/report.ts";
import { smallResult } from "../small-result.ts";

const report = suite<{ folder: string; from: string; to: string }>("report");
report.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "accelproxy-test-"));
  context.from = join(context.folder, "results");
  context.to = join(context.folder, "docs");
});
report.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

report(
  "given a result, then pages and plots, and what an earlier report drew is gone",
  async ({ from, to }) => {
    writeResult(join(from, "latency.json"), smallResult);
    mkdirSync(to);
    writeFileSync(join(to, "old.svg"), "");
    const written = await writeReport(from, to);
    assert.not.ok(existsSync(join(to, "old.svg")));
    for (const file of written) assert.ok(existsSync(file), file);

    const page = readFileSync(join(to, "latency.md"), "utf8");
    assert.match(page, /\| accelproxy \| 41\.0 \| 0\.509 \(0\.500–0\.519\) \| 100 \|/);
    assert.match(page, /HAProxy tcp: haproxy is not installed/);
    assert.match(page, /net\.ipv4\.tcp_congestion_control.*bbr/);
    const plots = [...page.matchAll(/\]\((\S+\.svg)\)/g)].map(([, name]) => name!);
    assert.ok(plots.length >= 2);
    for (const name of plots) {
      const svg = readFileSync(join(to, name), "utf8");
      assert.match(svg, /^<svg /);
      for (const variant of ["direct", "accelproxy", "nginx http, keepalive"])
        assert.ok(svg.includes(variant), variant);
    }
  },
);
report(
  "given a peer that is better, then the first page says so before anything else",
  async ({ from, to }) => {
    writeResult(join(from, "latency.json"), smallResult);
    await writeReport(from, to);
    const lines = readFileSync(join(to, "README.md"), "utf8").split("\n").slice(0, 20);
    const text = lines.join("\n");
    assert.match(
      text,
      /## Where we lose[\s\S]*first byte \(accelproxy\) \| RTT 40 ms.*41\.0 ms \| 40\.1 ms, nginx http, keepalive/,
    );
  },
);
report("given no results, then it says what to run", async ({ from, to }) => {
  mkdirSync(from);
  const problem = await writeReport(from, to).then(
    () => "",
    (error: Error) => error.message,
  );
  assert.match(problem, /bench -- all/);
});

const losses = suite("losses");
const time = { case: "c", metric: "first byte", unit: "ms", baseline: "direct" };
for (const [given, samples, want] of [
  ["a peer that is faster by 10 %", { accelproxy: [10], peer: [9] }, ["peer"]],
  ["a peer that is faster by 1 %", { accelproxy: [10], peer: [9.9] }, []],
  ["a slower peer", { accelproxy: [10], peer: [11] }, []],
  ["no proxy faster than ours", { direct: [5], accelproxy: [10] }, ["direct"]],
  ["two faster ones", { accelproxy: [10], one: [8], other: [7] }, ["other"]],
] as const) {
  losses(`given ${given}, then ${want.length > 0 ? want : "nothing"} is named`, () => {
    const found = lossesOf(rowsOf({ ...time, samples }));
    assert.equal(
      found.map(({ better }) => better.variant),
      [...want],
    );
  });
}
losses("given a rate, then more is better, and no proxy at all is no peer", () => {
  const rate = { case: "c", metric: "connections per second", unit: "1/s", baseline: null };
  const found = lossesOf(
    rowsOf({ ...rate, samples: { direct: [99], accelproxy: [10], slow: [5], fast: [20] } }),
  );
  assert.equal(
    found.map(({ better }) => better.variant),
    ["fast"],
  );
});
losses("given a metric nobody chooses by, then it is not judged", () => {
  const part = { case: "c", metric: "CPU, user", unit: "µs", baseline: null };
  assert.equal(lossesOf(rowsOf({ ...part, samples: { accelproxy: [10], peer: [1] } })), []);
});

const plots = suite("plots");
plots("given no rows, then no plots", () => {
  for (const name of ["latency", "rate", "throughput", "pool"]) assert.equal(plotsOf(name, []), []);
});

report.run();
losses.run();
plots.run();
