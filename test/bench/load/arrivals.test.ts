// Goal: phases follow one another in time, each with its own rate. Method: counts and bounds of seeded arrivals.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { phasedArrivals, poissonArrivals } from "../../../bench/load/arrivals.ts";

const phases = suite("phased arrivals");
phases("given one phase, then the arrivals of a plain load", () => {
  assert.equal(phasedArrivals([{ rate: 50, durationMs: 2_000 }], 7), poissonArrivals(50, 2_000, 7));
});
phases("given a calm, a burst and a pause, then each keeps its rate and its time", () => {
  const arrivals = phasedArrivals(
    [
      { rate: 10, durationMs: 10_000 },
      { rate: 100, durationMs: 10_000 },
      { rate: 0, durationMs: 10_000 },
      { rate: 10, durationMs: 10_000 },
    ],
    1,
  );
  const counts = [0, 1, 2, 3].map((n) => arrivals.filter((at) => Math.floor(at / 10_000) === n).length);
  const [calm = 0, burst = 0, pause, after = 0] = counts;
  assert.ok(calm > 70 && calm < 130, `${calm}`);
  assert.ok(burst > 900 && burst < 1_100, `${burst}`);
  assert.is(pause, 0);
  assert.ok(after > 70 && after < 130, `${after}`);
  assert.equal(
    arrivals,
    arrivals.toSorted((a, b) => a - b),
  );
});
phases("given two phases of the same rate, then they are not copies", () => {
  const phase = { rate: 20, durationMs: 1_000 };
  const arrivals = phasedArrivals([phase, phase], 1);
  const first = arrivals.filter((at) => at < 1_000);
  const second = arrivals.filter((at) => at >= 1_000).map((at) => at - 1_000);
  assert.not.equal(first, second);
});
phases("given a duration that is not positive, then it throws", () => {
  assert.throws(() => phasedArrivals([{ rate: 1, durationMs: 0 }], 1), RangeError);
});
phases.run();
