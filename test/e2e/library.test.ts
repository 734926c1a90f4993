// alone
// Goal: over the library a fresh request costs one round trip less, plain and over TLS, and a half-open that the server
// forgot is no error: every request is answered, and processed once.
// Method: real kernels 40 ms apart; undici with our connector and with its own, in turn. The server forgets its half-opens
// right before they are used. The bounds are such that another round trip breaks them and a busy machine does not; the
// exact ones, and a hundred times of forgetting, are `npm run soak -- library`.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LibraryWorld, RTT_MS } from "./library-world.ts";

const SAMPLES = 15;
const ROUNDS = 4;

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

for (const [scheme, roundTrips] of [
  ["http", 1],
  ["https", 2],
] as const) {
  library(`given ${scheme}, then the answer comes after ${roundTrips} round trips`, async ({ world }) => {
    const { ours, theirs } = await world.medians(scheme, SAMPLES);
    console.log(`  ${scheme}: ${ours.toFixed(2)} ms, without ${theirs.toFixed(2)} ms`);
    assert.ok(theirs >= (roundTrips + 1) * RTT_MS, `${theirs} ms without`);
    assert.ok(ours < (roundTrips + 0.5) * RTT_MS, `${ours} ms, more than ${roundTrips} round trips`);
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
