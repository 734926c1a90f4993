// Goal: ratios are of pairs and their interval is the one order statistics give. Method: samples whose ratios anyone
// can work out, a property for the interval, and a recorded order for the alternation.
import * as fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  alternate,
  groupBy,
  medianInterval,
  pairwiseRatio,
  rowsOf,
  samplesOf,
} from "../../../bench/measure/compare.ts";

const ratios = suite("pairwise ratio");
ratios("given pairs, then the median of their ratios, not the ratio of the medians", () => {
  // Ratios 3, 2, 0.5; the medians themselves are 30 and 10.
  assert.equal(pairwiseRatio([30, 90, 5], [10, 45, 10]), { ratio: 2, interval: [0.5, 3] });
});
ratios("given a disturbance that hit both of a pair, then it changes nothing", () => {
  const baseline = [10, 10, 1_000, 10, 10];
  assert.is(pairwiseRatio([5, 5, 500, 5, 5], baseline)?.ratio, 0.5);
});
ratios("given tries without a result, then their pairs do not count", () => {
  assert.equal(pairwiseRatio([null, 6, 8], [1, null, 4]), { ratio: 2, interval: [2, 2] });
});
ratios("given a shorter candidate, then only whole pairs count", () => {
  assert.is(pairwiseRatio([3], [1, 100])?.ratio, 3);
});
ratios("given a baseline of zero or no pairs, then there is no ratio", () => {
  assert.is(pairwiseRatio([1, 2], [0, 0]), undefined);
  assert.is(pairwiseRatio([], []), undefined);
});

const intervals = suite("median interval");
for (const [n, want] of [
  [1, [1, 1]],
  [5, [1, 5]],
  [10, [1, 10]],
  [100, [40, 61]],
] as const) {
  intervals(`given 1 to ${n}, then ${want.join(" to ")}`, () => {
    const samples = Array.from({ length: n }, (_, index) => n - index);
    assert.equal(medianInterval(samples), [...want]);
  });
}
intervals("given any samples, then the middle lies within", () => {
  fc.assert(
    fc.property(fc.array(fc.integer(), { minLength: 1, maxLength: 300 }), (samples) => {
      const [low, high] = medianInterval(samples);
      const sorted = samples.toSorted((a, b) => a - b);
      assert.ok(low <= sorted[(sorted.length - 1) >> 1]!);
      assert.ok(high >= sorted[sorted.length >> 1]!);
    }),
  );
});
intervals("given no samples, then it throws", () => assert.throws(() => medianInterval([]), /no samples/));

const rows = suite("rows");
const measurement = { case: "a case", metric: "time", unit: "ms", baseline: "base" };
rows("given a baseline, then others are compared with it and it with nobody", () => {
  const made = rowsOf({ ...measurement, samples: { base: [10, 20], other: [5, 10] } });
  assert.equal(
    made.map(({ variant, median, ratioTo, ratio }) => ({ variant, median, ratioTo, ratio })),
    [
      { variant: "base", median: 15, ratioTo: null, ratio: null },
      { variant: "other", median: 7.5, ratioTo: "base", ratio: 0.5 },
    ],
  );
});
rows("given a baseline that was not measured, then rows stand alone", () => {
  const [row] = rowsOf({ ...measurement, samples: { other: [5] } });
  assert.equal([row?.ratioTo, row?.ratio, row?.ratioInterval], [null, null, null]);
});
rows("given a variant without a result, then it has no row", () => {
  const made = rowsOf({ ...measurement, samples: { base: [1], other: [null, null] } });
  assert.equal(
    made.map(({ variant }) => variant),
    ["base"],
  );
});
rows("given failed tries, then their pairs stay pairs of the same index", () => {
  const made = rowsOf({ ...measurement, samples: { base: [1, 2, 4], other: [null, 4, 8] } });
  assert.is(made[1]?.ratio, 2);
  assert.equal(made[1]?.samples, [4, 8]);
});

const order = suite("alternate");
order("given three variants, then each round begins with the next one", async () => {
  const seen: string[] = [];
  const variants = [{ name: "a" }, { name: "b" }, { name: "c" }];
  const observed = await alternate(variants, 3, async ({ name }, round) => {
    seen.push(name);
    return { round };
  });
  assert.is(seen.join(""), "abcbcacab");
  assert.equal(samplesOf(observed, "round"), { a: [0, 1, 2], b: [0, 1, 2], c: [0, 1, 2] });
});

const groups = suite("groupBy");
groups("given values, then lists by key in the order of the first of each", () => {
  const grouped = groupBy(["bb", "a", "cc", "d"], ({ length }) => String(length));
  assert.equal(
    [...grouped],
    [
      ["2", ["bb", "cc"]],
      ["1", ["a", "d"]],
    ],
  );
});

ratios.run();
intervals.run();
rows.run();
order.run();
groups.run();
