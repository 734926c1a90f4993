// alone
// Goal: a pool left idle works at whatever moment it is used, however often the server repeats a SYN-ACK.
// Method: four servers with tcp_synack_retries 0, 1, 2 and 5, used at random moments; then the same on a bad path. At
// the same time in a world whose proxy hears with a raw socket.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Liveness, type LivenessOptions, LivenessWorld } from "./liveness-run.ts";
import { RAW_HEARING } from "./world.ts";

interface Context {
  worlds: LivenessWorld[];
}

/** What was found in all worlds, used at the same time. */
async function run({ worlds }: Context, options: LivenessOptions): Promise<Liveness[]> {
  return (await Promise.all(worlds.map((world) => world.run(options)))).flat();
}

const liveness = suite<Context>("liveness");

liveness.before(async (context) => {
  context.worlds = [];
  for (const prefix of [[], RAW_HEARING]) context.worlds.push(await LivenessWorld.create(prefix));
});

liveness.after(async ({ worlds }) => {
  for (const world of worlds) await world.close();
});

liveness("given a clean path, then every use is a hit and no entry is tainted", async (context) => {
  for (const found of await run(context, { durationMs: 6_000, gapMsMax: 700 })) {
    const { retries, uses, errors, firstByteMs, refreshed, pool } = found;
    const given = `tcp_synack_retries=${retries}: ${JSON.stringify(found)}`;
    assert.ok(uses > 6, given);
    assert.equal(errors, [], given);
    assert.equal([pool.hits, pool.misses, pool.replays], [uses, 0, 0], given);
    assert.equal([pool.tainted, pool.vanished, pool.refused], [0, 0, 0], given);
    assert.ok(refreshed > 10, given);
    assert.ok([...firstByteMs].sort((a, b) => a - b)[uses >> 1]! < 30, given); // one RTT is 20 ms
    assert.is(pool.halfOpen >= 2, true, given);
  }
});

liveness("given 1 % loss and 10 ms jitter, then no client sees an error", async (context) => {
  const link = { loss: 0.01, jitterMs: 10, seed: 5 };
  for (const found of await run(context, { durationMs: 6_000, gapMsMax: 300, link })) {
    const { retries, uses, errors, pool } = found;
    const given = `tcp_synack_retries=${retries}: ${JSON.stringify(found)}`;
    assert.ok(uses > 12, given);
    assert.equal(errors, [], given);
    assert.is(pool.replays, 0, given);
    assert.ok(pool.hits >= 0.8 * uses, given);
  }
});

liveness.run();
