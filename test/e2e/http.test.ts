// alone
// Goal: through an http listener a fresh request costs one round trip, two to a TLS upstream, and half-opens that the
// upstream forgot are no error: every request is answered, and processed once.
// Method: as library.test.ts, with an accelproxy between a client that knows nothing of it and the origin. The exact
// bounds, and a hundred times of forgetting, are `npm run soak -- http`.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { HttpWorld } from "./http-world.ts";
import { RTT_MS } from "./library-world.ts";

const SAMPLES = 15;
const ROUNDS = 3;

interface Context {
  world: HttpWorld;
}

const http = suite<Context>("http listeners in the lab");
http.before(async (context) => {
  context.world = await HttpWorld.create();
});
http.after(async ({ world }) => {
  await world.close();
});

for (const [scheme, roundTrips] of [
  ["http", 1],
  ["https", 2],
] as const) {
  http(
    `given an upstream of ${scheme}, then the answer comes after ${roundTrips} round trips`,
    async ({ world }) => {
      const { ours, theirs } = await world.medians(scheme, SAMPLES);
      console.log(`  ${scheme}: ${ours.toFixed(2)} ms, without ${theirs.toFixed(2)} ms`);
      assert.ok(theirs >= (roundTrips + 1) * RTT_MS, `${theirs} ms without`);
      assert.ok(ours < (roundTrips + 0.5) * RTT_MS, `${ours} ms, more than ${roundTrips} round trips`);
    },
  );
}

http("given requests, then the log says how each came by its connection", async ({ world }) => {
  const before = world.proxy.said("request").length;
  await world.requests([{ scheme: "http", method: "GET", count: 1 }]);
  const line = await world.proxy.until("access line", () => world.proxy.said("request")[before]);
  assert.is(line.listener, "http");
  assert.is(line.status, 200);
  assert.is(line.connect, "accelerated");
  assert.ok(Number(line.firstByteMs) >= RTT_MS && Number(line.totalMs) >= Number(line.firstByteMs));
});

http(
  "given upstreams that forgot their half-opens, then every request is answered once",
  async ({ world }) => {
    for (let round = 0; round < ROUNDS; round++) assert.equal(await world.forgetAndAsk(), []);
    const replayed = world.proxy.said("request").filter(({ connect }) => connect === "replayed").length;
    console.log(`  ${replayed} requests met a forgotten half-open`);
    assert.ok(replayed >= 10 * ROUNDS, `${replayed} replays: the upstreams did not forget`);
  },
);

http(
  "given an upgrade, then requests under way are answered and a new process goes on",
  async ({ world }) => {
    const under = world.requests([{ scheme: "http", method: "GET", count: 20 }]);
    await world.proxy.upgrade();
    const { answered } = await under;
    assert.equal(
      answered.filter(({ error }) => error !== undefined),
      [],
    );
    await world.ready();
    const after = await world.requests([{ scheme: "http", method: "POST", count: 4 }]);
    assert.equal(
      after.answered.filter(({ error }) => error !== undefined),
      [],
    );
    const { listeners } = await world.proxy.status();
    assert.equal(
      listeners.map(({ mode }) => mode),
      ["http", "http"],
    );
  },
);

// The new process has half-opens, ports and irs of the old one; what proves that they never existed it must hear itself.
http(
  "given an upgrade and then upstreams that forgot what was handed over, then every request is answered once",
  async ({ world }) => {
    const before = world.proxy.said("request").length;
    assert.equal(await world.forgetAndAsk(), []);
    const lines = world.proxy.said("request").slice(before);
    const replayed = lines.filter(({ connect }) => connect === "replayed").length;
    assert.ok(replayed >= 5, `${replayed} replays: the upstreams did not forget`);
  },
);

http("given a checkpoint, then it is refused with a remedy, and nothing changes", async ({ world }) => {
  const { code, stderr } = await world.checkpoint();
  assert.is(code, 1);
  assert.match(stderr, "http listeners cannot be put away: http, https (run them in a process of their own");
  const { answered } = await world.requests([{ scheme: "http", method: "GET", count: 1 }]);
  assert.is(answered[0]!.error, undefined);
});

http.run();
