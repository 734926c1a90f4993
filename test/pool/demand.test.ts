// Goal: the pool's size follows what arrives and how many at once, and falls to nothing when nobody comes.
// Method: arrivals at times the test chooses; the clock is an argument.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Demand } from "../../pool/demand.ts";
import { DEMAND_HALF_LIFE } from "../../pool/limits.ts";

const REFILL_MS = 50;

const demand = suite("demand");

demand("given nobody, then nothing", () => {
  assert.is(new Demand(0).wanted(2 * DEMAND_HALF_LIFE), 0);
});

demand("given a burst, then half as many again", () => {
  const wanted = new Demand(0);
  wanted.note(20, 1_000, REFILL_MS);
  assert.is(wanted.wanted(1_000), 30);
});

demand("given a burst across two windows, then all of it counts", () => {
  const wanted = new Demand(0);
  wanted.note(10, 1_000, REFILL_MS);
  wanted.note(10, 1_060, REFILL_MS);
  assert.is(wanted.wanted(1_060), 30);
});

demand("given windows far apart, then they do not add up", () => {
  const wanted = new Demand(0);
  wanted.note(10, 1_000, REFILL_MS);
  wanted.note(10, 1_500, REFILL_MS);
  assert.is(wanted.wanted(1_500), 15);
});

demand("given a steady rate, then what arrives in two refills and half of it", () => {
  const wanted = new Demand(0);
  for (let ms = 0; ms < 10_000; ms += 10) wanted.note(1, ms, REFILL_MS);
  const kept = wanted.wanted(10_000); // 100 a second: 10 in two refills
  assert.ok(kept >= 14 && kept <= 17, `${kept}`);
});

demand("given time, then the burst halves down to what anyone active gets, and is forgotten", () => {
  const wanted = new Demand(0);
  wanted.note(16, 0, REFILL_MS);
  const kept = [0, 1, 2, 3, 4, 5].map((lives) => wanted.wanted(lives * DEMAND_HALF_LIFE));
  assert.equal(kept, [24, 12, 6, 5, 5, 5]);
  assert.is(wanted.wanted(5.1 * DEMAND_HALF_LIFE), 0);
});

demand("given a start, then a small burst is expected for a while", () => {
  const wanted = new Demand(1_000);
  assert.is(wanted.wanted(1_000), 5);
  assert.is(wanted.wanted(1_000 + DEMAND_HALF_LIFE), 5);
  assert.is(wanted.wanted(1_000 + 1.1 * DEMAND_HALF_LIFE), 0);
});

demand("given a large burst, then three standard deviations more", () => {
  const wanted = new Demand(0);
  wanted.note(400, 1_000, REFILL_MS);
  assert.is(wanted.wanted(1_000), 460);
});

demand("given a whole window, then its rate", () => {
  const wanted = new Demand(0);
  for (let ms = 0; ms <= 200; ms += 10) wanted.note(2, ms, REFILL_MS);
  assert.is(wanted.perMs, 0.2);
});

demand("given a smaller burst later, then the larger one is remembered until it has faded", () => {
  const wanted = new Demand(0);
  wanted.note(40, 0, REFILL_MS);
  wanted.note(4, 1_000, REFILL_MS);
  assert.ok(wanted.wanted(1_000) > 54);
  wanted.note(30, DEMAND_HALF_LIFE, REFILL_MS);
  assert.is(wanted.wanted(DEMAND_HALF_LIFE), 45);
});

demand.run();
