// Goal: round-trip estimation as RFC 6298 has it, and the bounds that tell an answer from the upstream's own timer.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { RttEstimator } from "../../pool/rtt.ts";
import { leaseWindow, openTimeout, refreshInterval, repeatAfter } from "../../pool/timing.ts";

function estimate(...samples: number[]): RttEstimator {
  const rtt = new RttEstimator();
  for (const sample of samples) rtt.sample(sample);
  return rtt;
}

const rtt = suite("rtt");

rtt("given no sample, then unknown", () => {
  assert.equal([estimate().known, estimate().srttMs, estimate().answerAfterMs()], [false, 0, 0]);
});

rtt("given the first sample, then it is the estimate and half of it the variation", () => {
  const { srttMs } = estimate(40);
  assert.is(srttMs, 40);
  assert.is(estimate(40).answerWithinMs(), 40 + 4 * 20 + 20);
});

rtt("given more samples, then they weigh an eighth", () => {
  assert.is(estimate(40, 48).srttMs, 41);
});

for (const bad of [-1, Number.NaN]) {
  rtt(`given a sample of ${bad}, then it does not count`, () => {
    assert.is(estimate(40, bad).srttMs, 40);
  });
}

rtt("given a loopback's round trip, then it is known", () => {
  assert.is(estimate(0).known, true);
});

rtt(
  "given a steady path, then answers are expected soon and never before half the shortest round trip",
  () => {
    const steady = estimate(...Array.from({ length: 100 }, () => 40));
    assert.ok(Math.abs(steady.answerWithinMs() - 90) < 0.1);
    assert.ok(Math.abs(steady.answerAfterMs() - 19) < 0.1);
  },
);

rtt("given a path that became longer, then the shortest round trip is forgotten slowly", () => {
  const longer = estimate(10, ...Array.from({ length: 3_000 }, () => 40));
  assert.ok(longer.answerAfterMs() > 18, `${longer.answerAfterMs()}`);
});

rtt.run();

const timing = suite("timing");

for (const [srttMs, refresh, lease] of [
  [0.1, 800, 979],
  [40, 800, 940],
  [120, 800, 860],
  [200, 720, 780],
  [400, 520, 580],
  [800, 150, 180],
  [801, 150, 0],
] as const) {
  timing(`given ${srttMs} ms, then a refresh after ${refresh} ms and leases for ${lease} ms`, () => {
    assert.is(Math.round(refreshInterval(srttMs)), refresh);
    assert.is(leaseWindow(srttMs), lease);
  });
}

timing(
  "given any round trip in reach, then each refresh is answered while the last answer can be leased",
  () => {
    for (let srttMs = 1; srttMs <= 750; srttMs++) {
      // A lease window begins at a SYN-ACK, a refresh interval at its SYN, one round trip earlier.
      assert.ok(refreshInterval(srttMs) <= leaseWindow(srttMs), `${srttMs} ms`);
    }
  },
);

timing(
  "given a lost refresh, then it comes again before the upstream's timer, and not within 500 ms twice",
  () => {
    const steady = estimate(...Array.from({ length: 100 }, () => 40));
    assert.is(Math.round(repeatAfter(1, steady)), 150);
    assert.is(Math.round(repeatAfter(1, steady) + repeatAfter(2, steady)), 580);
    assert.is(openTimeout(estimate()), 1_000);
    assert.is(openTimeout(steady), 250);
    assert.ok(openTimeout(estimate(400)) >= 800);
  },
);

timing.run();
