// Goal: upstreams that answer with SYN cookies are told from those that keep state.
// Method: TSvals as net/ipv4/syncookies.c makes them, and the findings a canary may bring.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CookieStamps } from "../../pool/cookie-stamps.ts";
import { CookieWatch } from "../../pool/cookie-watch.ts";
import { CANARY_INTERVAL } from "../../pool/limits.ts";
import type { LiveEntry } from "../../pool/live-entry.ts";
import { RttEstimator } from "../../pool/rtt.ts";

const TS_OFFSET = 0x9abcdef1;

/** TSval of a stateful SYN-ACK. */
const stateful = (nowMs: number): number => (nowMs + TS_OFFSET) >>> 0;

/** TSval of a cookie: the time with the low six bits replaced by the options (cookie_init_timestamp). */
function cookie(nowMs: number): number {
  const options = 7 | 0x10; // snd_wscale 7, SACK
  const made = (nowMs & ~0x3f) | options;
  return ((made > nowMs ? made - 64 : made) + TS_OFFSET) >>> 0;
}

const stamps = suite("cookie stamps");

stamps("given a burst of cookies in the same 64 ms, then it counts as one sign", () => {
  const watch = new CookieStamps();
  for (let i = 0; i < 20; i++) assert.is(watch.learn(cookie(6_400)), false);
  assert.is(watch.looksMade(cookie(6_400)), false);
});

stamps("given cookies at four times, then they are known, once, and later ones recognised", () => {
  const watch = new CookieStamps();
  const learnt = [1_000, 2_013, 3_777, 4_500, 5_901].map((ms) => watch.learn(cookie(ms)));
  assert.equal(learnt, [false, false, false, true, false]);
  for (let ms = 10_000; ms < 20_000; ms += 37) assert.is(watch.looksMade(cookie(ms)), true);
});

stamps("given cookies among stateful answers, then one stateful answer in 64 is taken for one", () => {
  const watch = new CookieStamps();
  let learnt = 0;
  for (let burst = 0; burst < 6; burst++) {
    const ms = 1_000 + burst * 231;
    for (const tsval of [stateful(ms), stateful(ms + 1), cookie(ms + 1)]) if (watch.learn(tsval)) learnt += 1;
  }
  assert.is(learnt, 1);
  const taken = Array.from({ length: 6_400 }, (_, ms) => watch.looksMade(stateful(50_000 + ms)));
  assert.is(taken.filter(Boolean).length, 100);
});

stamps("given a server that keeps state, then no sign of cookies", () => {
  for (const stepMs of [1, 7, 61, 211, 1_003]) {
    const watch = new CookieStamps();
    for (let i = 0; i < 200; i++) assert.is(watch.learn(stateful(1_000 + i * stepMs)), false, `${stepMs} ms`);
  }
});

stamps("given the last cookies long ago, then they are forgotten", () => {
  const watch = new CookieStamps();
  for (const ms of [1_000, 2_013, 3_777, 4_500]) watch.learn(cookie(ms));
  for (let i = 0; i < 13; i++) watch.learn(stateful(9_000 + i));
  assert.is(watch.looksMade(cookie(20_000)), false);
});

stamps.run();

const canary = suite("cookie watch");

/** A watch with a canary; the entry is only ever compared. */
function watching(): { watch: CookieWatch; entry: LiveEntry } {
  const rtt = new RttEstimator();
  rtt.sample(20);
  const watch = new CookieWatch(rtt);
  const entry = {} as LiveEntry;
  watch.start(entry, 0, 0);
  return { watch, entry };
}

for (const [given, sameIrs, solicited, finding] of [
  ["a SYN-ACK unasked", true, false, "stateful"],
  ["another irs after silence", false, true, "stateful"],
  ["the same irs after silence", true, true, "cookies"],
] as const) {
  canary(`given ${given}, then ${finding}`, () => {
    assert.is(watching().watch.onAnswer(sameIrs, solicited), finding);
  });
}

canary("given one sighting, then a second canary at once decides", () => {
  const { watch, entry } = watching();
  assert.is(watch.end("cookies", 2_000), undefined);
  assert.is(watch.due(2_000), true);
  watch.start(entry, 2_000, 2_000);
  assert.is(watch.end("cookies", 4_000), true);
});

canary("given a stateful answer between two sightings, then it starts again", () => {
  const { watch, entry } = watching();
  watch.end("cookies", 2_000);
  watch.start(entry, 2_000, 2_000);
  assert.is(watch.end("stateful", 4_000), false);
  watch.start(entry, 12_000, 12_000);
  assert.is(watch.end("cookies", 14_000), undefined);
});

canary("given one under way, then no other; and the next after its interval, or at once on suspicion", () => {
  const { watch, entry } = watching();
  assert.is(watch.due(CANARY_INTERVAL + 1), false);
  watch.forget(entry);
  assert.is(watch.due(CANARY_INTERVAL - 1), false);
  assert.is(watch.due(CANARY_INTERVAL), true);
  watch.start(entry, CANARY_INTERVAL, CANARY_INTERVAL);
  watch.end("stateful", CANARY_INTERVAL + 1_000);
  watch.suspect(CANARY_INTERVAL + 1_000);
  assert.is(watch.due(CANARY_INTERVAL + 1_000), true);
});

canary("given a start, then the SYN goes out only after the upstream's own timer would have fired", () => {
  const rtt = new RttEstimator();
  rtt.sample(20);
  const watch = new CookieWatch(rtt);
  assert.ok(watch.start({} as LiveEntry, 500, 300) >= 300 + 1_000 + rtt.answerWithinMs());
});

canary.run();
