// Goal: behind a firewall that forgets half-opens, two silent first flights are enough to leave the destination
// alone: later clients are served over ordinary connections, one line says so, and no flight is sent twice.
// Method: a filter in the lab drops the data of connections whose SYN is older than 300 ms. The return after
// the pause takes 15 s: npm run soak -- black-hole.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Peer } from "./peer.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 20;
const PAUSED = "first data on half-opens vanishes, connecting in the ordinary way";

interface Context {
  world: World;
  proxy: ProxyProcess;
  client: Peer;
  origin: Peer;
}

const blackHole = suite<Context>("black hole");
blackHole.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  context.client = await Peer.start(context.world, "near");
  context.origin = await Peer.start(context.world, "far");
  const behind = await context.origin.listen({ behaviour: "count", act: "answer" });
  const beside = await context.origin.listen({ behaviour: "count", act: "answer" });
  await context.world.lab.link().setFilter({
    module: new URL("black-hole-filter.ts", import.meta.url),
    export: "forgetful",
    options: { port: behind.port, forgetMs: 300 },
  });
  context.proxy = await context.world.proxy(`
listeners:
  - { name: behind, bind: "127.0.0.1:0", upstream: behind }
  - { name: beside, bind: "127.0.0.1:0", upstream: beside }
upstreams:
  behind: { servers: [{ address: "10.77.0.2:${behind.port}" }] }
  beside: { servers: [{ address: "10.77.0.2:${beside.port}" }] }
`);
  await context.proxy.ready();
  await new Promise((resolve) => setTimeout(resolve, 500)); // the firewall forgets what is there
});
blackHole.after(async ({ world }) => {
  await world.close();
});

blackHole(
  "given two silent first flights, then the destination goes direct and its clients are served",
  async (context) => {
    const { client, proxy, origin } = context;
    const request = { host: "127.0.0.1", port: proxy.port("behind"), limitMs: 8_000 };
    const lost = client.requests({ ...request, first: 1, count: 2, concurrency: 2 });
    await proxy.until("paused", () => proxy.said(PAUSED).length > 0, 6_000);
    const pool = (await proxy.status()).pools.find(({ upstream }) => upstream === "behind");
    assert.is(pool?.paused, true);
    assert.is(pool?.hits, 2);
    assert.is(pool?.halfOpen, 0);

    const served = await client.requests({ ...request, first: 10, count: 10, concurrency: 3 });
    assert.ok(
      served.every(({ end }) => end === "answer"),
      JSON.stringify(served),
    );
    const elsewhere = await client.requests({ ...request, port: proxy.port("beside"), first: 30, count: 5 });
    assert.ok(elsewhere.every(({ end }) => end === "answer"));

    const ends = await lost;
    assert.equal(
      ends.map(({ end }) => end),
      ["reset", "reset"],
    );
    assert.ok(
      ends.every(({ tookMs }) => tookMs >= 3_000 && tookMs < 6_000),
      JSON.stringify(ends),
    );
    const seen = await origin.seen();
    assert.not(seen.has(1) || seen.has(2));
    assert.ok(served.every(({ id }) => seen.get(id) === 1));
    assert.is(proxy.said(PAUSED).length, 1);
    assert.is(proxy.said(PAUSED)[0]?.upstream, "behind");
    const status = (await proxy.status()).pools;
    assert.is(status.find(({ upstream }) => upstream === "beside")?.paused, false);
  },
);
blackHole.run();
