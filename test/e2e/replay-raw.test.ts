// Goal: where handshakes are heard with a raw socket, first flights are proven undelivered as well.
// Method: that of replay.test.ts, with a proxy that may not use eBPF.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ADVERSE_CASES, ReplayWorld, tally } from "./replay-cases.ts";
import { RAW_HEARING } from "./world.ts";

const BURST = 40;
const LATE_RESET = 1;

const replay = suite<{ replays: ReplayWorld }>("replay, raw socket");

replay.before(async (context) => {
  context.replays = await ReplayWorld.create(RAW_HEARING);
});

replay.after(async ({ replays }) => {
  await replays.world.close();
});

replay(
  "given an upstream that forgot its half-opens, then each request is seen once",
  async ({ replays }) => {
    await replays.forget("counter");
    const outcomes = await replays.requests("counter", BURST);
    const seen = await replays.origin.seen();
    assert.ok(
      outcomes.every(({ id, end }) => end === "answer" && seen.get(id) === 1),
      tally(outcomes),
    );
    const { replays: count } = await replays.pool("counter");
    assert.ok(count > BURST / 2, `${count} replays: the upstream did not forget`);
  },
);

const { name } = ADVERSE_CASES[LATE_RESET]!;
replay(`given an upstream that reads and ${name}, then nothing is sent twice`, async ({ replays }) => {
  const outcomes = await replays.adverse(LATE_RESET, BURST);
  const seen = await replays.origin.seen();
  assert.ok(
    outcomes.every(({ id }) => (seen.get(id) ?? 0) <= 1),
    tally(outcomes),
  );
  const { hits, replays: count } = await replays.pool(`case${LATE_RESET}`);
  assert.is(count, 0);
  assert.ok(hits > BURST / 2, `only ${hits} sessions were accelerated`);
});

replay.run();
