// Goal: SYNs leave at most at the configured rate, in bursts of a tenth of a second's worth.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { TokenBucket } from "../../pool/token-bucket.ts";

const bucket = suite("token bucket");

for (const [perSecond, burst] of [
  [200, 20],
  [20, 2],
  [5, 1],
] as const) {
  bucket(`given ${perSecond} a second, then ${burst} at once`, () => {
    const tokens = new TokenBucket(perSecond, 0);
    let taken = 0;
    while (tokens.tryTake(0)) taken += 1;
    assert.is(taken, burst);
  });

  bucket(`given ${perSecond} a second and somebody who always asks, then the rate holds`, () => {
    const tokens = new TokenBucket(perSecond, 0);
    let taken = 0;
    for (let ms = 0; ms < 10_000; ms++) while (tokens.tryTake(ms)) taken += 1;
    assert.ok(Math.abs(taken - 10 * perSecond) <= burst + 1, `${taken} in 10 s`);
  });
}

bucket("given none left, then waitMs() tells when there is one", () => {
  const tokens = new TokenBucket(50, 0);
  while (tokens.tryTake(0));
  const waitMs = tokens.waitMs(0);
  assert.ok(Math.abs(waitMs - 20) < 1e-9);
  assert.is(tokens.tryTake(waitMs - 1), false);
  assert.is(tokens.tryTake(waitMs + 1e-6), true);
});

bucket("given repetitions that cannot wait, then new SYNs pay for them", () => {
  const tokens = new TokenBucket(100, 0);
  for (let i = 0; i < 15; i++) tokens.take(0);
  assert.is(tokens.tryTake(50), false);
  assert.is(tokens.tryTake(61), true);
});

bucket("given a debt, then it is bounded", () => {
  const tokens = new TokenBucket(100, 0);
  for (let i = 0; i < 1_000; i++) tokens.take(0);
  assert.is(tokens.tryTake(500), false);
  assert.is(tokens.tryTake(511), true);
});

bucket.run();
