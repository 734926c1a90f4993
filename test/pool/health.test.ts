// Goal: silence, a full SYN queue and packet loss are told apart, and each has its consequence for a while.
// Method: what was answered and what was not, at times the test chooses; the clock is an argument.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Health } from "../../pool/health.ts";
import { BACKOFF_MAX, BLACKHOLE_PAUSE_MAX, BLACKHOLE_PAUSE_MIN, CEILING_HOLD } from "../../pool/limits.ts";

/** A new SYN answered at `nowMs`, with so many half-opens then. */
function answer(health: Health, nowMs: number, held: number): void {
  health.onHeard(nowMs, held);
  health.onAnswered();
}

/** A new SYN given up at `nowMs`, first sent 500 ms earlier and repeated in between. */
const lose = (health: Health, nowMs: number) => health.onUnanswered(nowMs, nowMs - 500, nowMs - 250);

const health = suite("health");

health("given no answer at all, then silent", () => {
  assert.is(lose(new Health(32), 1_000), "silent");
});

health("given an upstream that fell silent, then lost at first, silent in the next 5 s", () => {
  const upstream = new Health(32);
  answer(upstream, 1_000, 8);
  assert.equal(
    [2_000, 2_001, 2_002, 4_900].map((ms) => lose(upstream, ms)),
    ["lost", "lost", "lost", "lost"],
  );
  assert.is(lose(upstream, 5_100), "silent");
  assert.is(upstream.ceiling, 32);
});

health(
  "given three unanswered while others are heard, then full: half of what it held, for 5 minutes",
  () => {
    const upstream = new Health(128);
    for (let held = 1; held <= 64; held++) answer(upstream, 1_000 + held, held);
    upstream.onHeard(1_990, 20);
    assert.equal(
      [2_000, 2_001, 2_002].map((ms) => lose(upstream, ms)),
      ["lost", "lost", "full"],
    );
    assert.equal([upstream.ceiling, upstream.isLowered], [32, true]);
    upstream.tick(2_002 + CEILING_HOLD - 1);
    assert.is(upstream.ceiling, 32);
    upstream.tick(2_002 + CEILING_HOLD);
    assert.is(upstream.ceiling, 40);
  },
);

health("given the rest of the burst that lowered it, then no more comes of them", () => {
  const upstream = new Health(128);
  for (let held = 1; held <= 64; held++) answer(upstream, 1_000 + held, held);
  upstream.onHeard(1_990, 20);
  for (let ms = 2_000; ms < 2_003; ms++) lose(upstream, ms);
  for (let ms = 2_003; ms < 2_200; ms++) assert.is(lose(upstream, ms), "lost");
  assert.is(upstream.ceiling, 32);
});

health("given load, then three of very many are loss, and more than one in 40 are not", () => {
  const upstream = new Health(128);
  for (let i = 0; i < 400; i++) answer(upstream, 1_000 + i, 60);
  upstream.onHeard(1_990, 60);
  const outcomes = Array.from({ length: 11 }, (_, i) => lose(upstream, 2_000 + i));
  assert.equal(outcomes, [...Array(10).fill("lost"), "full"]);
  assert.is(upstream.ceiling, 30);
});

health("given a small upstream, then at least one stays", () => {
  const upstream = new Health(4);
  answer(upstream, 1_000, 1);
  upstream.onHeard(1_990, 1);
  for (let ms = 2_000; ms < 2_003; ms++) lose(upstream, ms);
  assert.is(upstream.ceiling, 1);
});

health("given failures in a row, then the waits double up to a limit and one entry tries first", () => {
  const upstream = new Health(32);
  let nowMs = 0;
  const waits: number[] = [];
  for (let i = 0; i < 7; i++) {
    upstream.backOff(nowMs);
    assert.is(upstream.isOpen, false);
    waits.push(upstream.untilMs - nowMs);
    nowMs = upstream.untilMs;
    assert.is(upstream.tick(nowMs - 1), undefined);
    assert.is(upstream.tick(nowMs), "backoff");
    assert.is(upstream.ceiling, 1);
  }
  assert.equal(waits, [1_000, 2_000, 4_000, 8_000, 16_000, BACKOFF_MAX, BACKOFF_MAX]);
  answer(upstream, nowMs, 1);
  assert.is(upstream.ceiling, 32);
  upstream.backOff(nowMs);
  assert.is(upstream.untilMs - nowMs, 1_000);
});

health("given first flights into silence, then pauses that double up to a limit", () => {
  const upstream = new Health(32);
  const pauses: number[] = [];
  let nowMs = 0;
  for (let i = 0; i < 6; i++) {
    pauses.push(upstream.pause(nowMs));
    nowMs = upstream.untilMs;
    assert.is(upstream.tick(nowMs), "blackholed");
  }
  assert.equal(pauses.slice(0, 2), [BLACKHOLE_PAUSE_MIN, 2 * BLACKHOLE_PAUSE_MIN]);
  assert.is(pauses.at(-1), BLACKHOLE_PAUSE_MAX);
});

health.run();
