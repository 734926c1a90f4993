// Goal: the demo's table and verdict say what the samples say. Method: samples made up around two round trips.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type DemoSamples, formatTable, judge } from "../../bench/demo-report.ts";
import type { Sample } from "../../bench/load/generator.ts";

const RTT_MS = 40;

function samples(...firstByteMs: readonly number[]): Sample[] {
  return firstByteMs.map((ms, index) => ({
    atMs: index * 50,
    lateMs: 0,
    firstByteMs: ms,
    lastByteMs: ms + 1,
    error: null,
  }));
}

function failed(error: string): Sample {
  return { atMs: 0, lateMs: 0, firstByteMs: null, lastByteMs: null, error };
}

const direct = samples(80.4, 80.8, 81, 95);
const good: DemoSamples = { direct, accelerated: samples(40.5, 41, 41.2, 47) };

const verdicts = suite("the demo's verdict");
for (const [given, seen, isGood, sentence] of [
  [
    "half the time",
    good,
    true,
    /^One round trip instead of two: .* 1\.0[23] round trips \(41\.0 ms\) .* 2\.02 /,
  ],
  ["exactly 0.52 of it", { direct: samples(100), accelerated: samples(52) }, true, /^One round trip/],
  ["more than 0.52 of it", { direct: samples(100), accelerated: samples(52.1) }, false, /^Not accelerated: /],
  ["two round trips both ways", { direct, accelerated: direct }, false, /that is 1\.00 of it/],
  [
    "one failed request",
    { direct, accelerated: [...good.accelerated, failed("ECONNRESET")] },
    false,
    /^one request failed \(ECONNRESET\); half/,
  ],
  [
    "failed direct requests",
    { direct: [...direct, failed("timeout"), failed("timeout")], accelerated: good.accelerated },
    false,
    /^2 requests failed \(timeout\)/,
  ],
  [
    "no answer through the proxy",
    { direct, accelerated: [failed("ECONNREFUSED")] },
    false,
    /^Nothing to compare: ECONNREFUSED\.$/,
  ],
  ["nothing at all", { direct: [], accelerated: [] }, false, /no requests were sent/],
] as const) {
  verdicts(`given ${given}, then it is ${isGood ? "good" : "not good"}`, () => {
    const verdict = judge(seen, RTT_MS);
    assert.is(verdict.isGood, isGood);
    assert.match(verdict.sentence, sentence);
  });
}

const tables = suite("the demo's table");
tables("given samples, then a row for each way, in columns", () => {
  assert.is(
    formatTable(good, { hits: 3, misses: 1 }),
    [
      "first byte, ms  n   p50   p90   p99  errors  hit rate",
      "direct          4  80.8  95.0  95.0       0         –",
      "accelerated     4  41.0  47.0  47.0       0    75.0 %",
    ].join("\n"),
  );
});
tables("given a way without answers, then dashes and its errors", () => {
  const table = formatTable({ direct, accelerated: [failed("timeout")] }, { hits: 0, misses: 0 });
  assert.match(table, /\naccelerated {5}0 {5}– {5}– {5}– {7}1 {9}–$/);
});

verdicts.run();
tables.run();
