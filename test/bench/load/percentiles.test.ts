// Goal: percentiles are samples, by nearest rank. Method: tables with values anyone can count, and properties.
import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { median, percentile, summarize } from "../../../bench/load/percentiles.ts";

const oneToHundred = Array.from({ length: 100 }, (_, index) => index + 1);

const ranks = suite("percentile");
for (const [p, want] of [
  [0, 1],
  [0.005, 1],
  [0.01, 1],
  [0.07, 7],
  [0.5, 50],
  [0.501, 51],
  [0.99, 99],
  [0.991, 100],
  [1, 100],
] as const) {
  ranks(`given 1 to 100, then the share ${p} is within ${want}`, () => {
    assert.is(percentile(oneToHundred, p), want);
  });
}

ranks("given one sample, then it is every percentile", () => {
  for (const p of [0, 0.5, 0.99, 1]) assert.is(percentile([7], p), 7);
});

ranks("given no samples or a share outside 0 to 1, then it throws", () => {
  assert.throws(() => percentile([], 0.5), /no samples/);
  for (const p of [-0.1, 1.1, Number.NaN]) assert.throws(() => percentile([1], p), /not a share/);
});

ranks("given any samples, then at least the share lies within, and less without that sample", () => {
  const samples = fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(samples, fc.integer({ min: 1, max: 100 }), (values, percent) => {
      const sorted = values.toSorted((a, b) => a - b);
      const found = percentile(sorted, percent / 100);
      assert.ok(sorted.includes(found));
      assert.ok(sorted.filter((value) => value <= found).length * 100 >= percent * sorted.length);
      assert.ok(sorted.filter((value) => value < found).length * 100 < percent * sorted.length);
    }),
  );
});

const summaries = suite("summarize");
summaries("given samples out of order, then they are sorted by value and left as they are", () => {
  const samples = [100, 9, 20, 1];
  assert.equal(summarize(samples), { n: 4, min: 1, p50: 9, p90: 100, p99: 100, max: 100 });
  assert.equal(samples, [100, 9, 20, 1]);
});
summaries("given no samples, then it throws", () => assert.throws(() => summarize([]), /no samples/));

const medians = suite("median");
for (const [samples, want] of [
  [[3], 3],
  [[10, 2, 9], 9],
  [[4, 1, 3, 2], 2.5],
] as const) {
  medians(`given ${samples.join(", ")}, then ${want}`, () => assert.is(median(samples), want));
}
medians("given no samples, then it throws", () => assert.throws(() => median([]), /no samples/));

ranks.run();
summaries.run();
medians.run();
