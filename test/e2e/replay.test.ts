// drivers: io_uring, epoll
// Goal: a first flight is sent again when, and only when, it is proven that the upstream has never seen it.
// Method: an upstream forgets its half-opens between their SYN and their use; others read a request and end the
// connection while the lab loses, delays or reorders the news. The upstreams count requests by their numbers.
import { createHash } from "node:crypto";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { randomBytes } from "./random-bytes.ts";
import { ADVERSE_CASES, ReplayWorld, tally } from "./replay-cases.ts";

const BURST = 40;
const ROUNDS = 6;
const TRIES = 43;

interface Context {
  replays: ReplayWorld;
}

const replay = suite<Context>("replay");
replay.before(async (context) => {
  context.replays = await ReplayWorld.create();
});
replay.after(async ({ replays }) => {
  await replays.world.close();
});

replay(
  "given an upstream that forgot its half-opens, then each request is answered and seen once",
  async ({ replays }) => {
    for (let round = 0; round < ROUNDS; round++) {
      await new Promise((resolve) => setTimeout(resolve, (round * 800) / ROUNDS)); // another phase of the refreshes
      await replays.forget("counter");
      const outcomes = await replays.requests("counter", BURST);
      const seen = await replays.origin.seen();
      assert.ok(
        outcomes.every(({ end }) => end === "answer"),
        `round ${round}: ${tally(outcomes)}`,
      );
      assert.ok(outcomes.every(({ id }) => seen.get(id) === 1));
      await replays.refilled("counter");
    }
    const { hits, replays: count } = await replays.pool("counter");
    console.log(`  ${count} of ${hits} leases replayed`);
    assert.ok(count > (BURST * ROUNDS) / 2, `${count} replays: the upstream did not forget`);
  },
);

replay("given a replayed first flight, then all that follows it arrives in order", async ({ replays }) => {
  const bytes = 4 << 20;
  const expected = createHash("sha256").update("hello");
  for (const chunk of randomBytes(7, bytes)) expected.update(chunk);
  const sum = expected.digest("hex");
  await replays.forget("talker");
  const sessions = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const connection = await replays.client.connect(replays.proxy.port("talker"), "127.0.0.1", {
        text: "hello",
      });
      await connection.heard("hello"); // a second segment before would forbid the replay
      await connection.send({ bytes, seed: 7, chunk: 10_000 });
      await connection.end();
      return connection;
    }),
  );
  for (const connection of sessions) {
    await connection.saw("end");
    const report = await connection.report();
    assert.is(report.bytes, bytes + 5);
    assert.is(report.sha256, sum);
    assert.not(connection.has("error"));
  }
  assert.is((await replays.pool("talker")).replays, sessions.length);
});

replay(
  "given a forgetful upstream that speaks first, then it is heard over another connection",
  async ({ replays }) => {
    await replays.forget("greeter");
    const connections = await Promise.all(
      Array.from({ length: 8 }, () => replays.client.connect(replays.proxy.port("greeter"))),
    );
    for (const connection of connections) {
      assert.is(await connection.heard("ready"), "220 ready");
      await connection.end();
      await connection.saw("close");
      assert.not(connection.has("error"));
    }
    assert.is((await replays.pool("greeter")).misses, 0);
  },
);

for (const [index, { name }] of ADVERSE_CASES.entries()) {
  replay(`given an upstream that reads and ${name}, then nothing is sent twice`, async ({ replays }) => {
    const outcomes = await replays.adverse(index, TRIES);
    const seen = await replays.origin.seen();
    const { hits, misses, replays: count } = await replays.pool(`case${index}`);
    console.log(`  ${tally(outcomes)}; ${hits} hits, ${misses} misses`);
    assert.equal(
      outcomes.filter(({ id }) => (seen.get(id) ?? 0) > 1),
      [],
    );
    assert.is(count, 0, `${count} replays although the connections existed`);
    assert.ok(hits > TRIES / 2, `only ${hits} sessions were accelerated`);
    assert.ok(outcomes.every(({ end }) => end !== "answer" && end !== "refused"));
  });
}
replay.run();
