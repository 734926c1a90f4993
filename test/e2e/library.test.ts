// deadline: 120s
// alone
// Goal: over the library a fresh request costs one round trip less, plain and over TLS, and a half-open that the server
// forgot is no error: every request is answered, and processed once.
// Method: real kernels 40 ms apart; undici with our connector and with its own, in turn. The server forgets its half-opens
// right before they are used; `npm run soak -- library` does that a hundred times.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LibraryWorld, RTT_MS } from "./library-world.ts";

const SAMPLES = 15;
const ROUNDS = 4;
const TRIES = 2;

interface Context {
  world: LibraryWorld;
}

const library = suite<Context>("library in the lab");
library.before(async (context) => {
  context.world = await LibraryWorld.create();
});
library.after(async ({ world }) => {
  await world.close();
});

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

for (const [scheme, roundTrips, slackMs] of [
  ["http", 1, 1.5],
  ["https", 2, 3],
] as const) {
  library(`given ${scheme}, then the answer comes after ${roundTrips} round trips`, async ({ world }) => {
    await world.ready();
    for (let tried = 1; ; tried++) {
      const job = { scheme, method: "GET", count: SAMPLES, isOneByOne: true } as const;
      const ours = await world.requests([job]);
      const theirs = await world.requests([{ ...job, isAccelerated: false }]);
      for (const { error } of [...ours.answered, ...theirs.answered]) assert.is(error, undefined);
      const oursMs = median(ours.answered.map(({ ms }) => ms));
      const theirsMs = median(theirs.answered.map(({ ms }) => ms));
      console.log(`  ${scheme}: ${oursMs.toFixed(2)} ms, without ${theirsMs.toFixed(2)} ms`);
      assert.ok(theirsMs >= (roundTrips + 1) * RTT_MS, `${theirsMs} ms without`);
      if (oursMs <= roundTrips * RTT_MS + slackMs) break;
      assert.ok(tried < TRIES, `${oursMs} ms, more than ${roundTrips} round trips and ${slackMs} ms`);
    }
  });
}

library(
  "given a server that forgot its half-opens, then every request is answered once",
  async ({ world }) => {
    for (let round = 0; round < ROUNDS; round++) assert.equal(await world.forgetAndAsk(), []);
    const { replays } = await world.requests([]);
    console.log(`  ${replays} connections had been forgotten`);
    assert.ok(replays >= 10 * ROUNDS, `${replays} replays: the server did not forget`);
  },
);

library.run();
