// drivers: io_uring, epoll
// Goal: sessions are spread over the servers of an upstream by weight; one that is down costs no client its answer;
// a name stands for all its addresses.
// Method: servers that answer with their names, one of them not listening; a private /etc/hosts in a mount namespace.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Outcome, Peer } from "./peer.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 10;
const CONNECT_TIMEOUT_MS = 1_500;
/** Nobody listens there. */
const DEAD_PORT = 9;

interface Context {
  world: World;
  client: Peer;
  origin: Peer;
  proxy: ProxyProcess;
  ports: Record<"a" | "b" | "c", number>;
  nextId: number;
}

async function send(
  context: Context,
  proxy: ProxyProcess,
  listener: string,
  count: number,
): Promise<Outcome[]> {
  const first = context.nextId;
  context.nextId += count;
  const port = proxy.port(listener);
  return context.client.requests({ host: "127.0.0.1", port, first, count, concurrency: 4, limitMs: 5_000 });
}

/** How many requests each server answered; every request must have been answered. */
function shares(outcomes: readonly Outcome[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) {
    assert.is(outcome.end, "answer", JSON.stringify(outcome));
    const [, name = ""] = / by (\w+)/.exec(outcome.text)!;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

const roundRobin = suite<Context>("round robin");
roundRobin.before(async (context) => {
  context.nextId = 1;
  context.world = await World.create({
    hosts: ["near", "far", "farther"],
    links: [
      { between: ["near", "far"], rttMs: RTT_MS },
      { between: ["near", "farther"], rttMs: RTT_MS },
    ],
  });
  context.client = await Peer.start(context.world, "near");
  context.origin = await Peer.start(context.world, "far");
  const serve = async (name: string): Promise<number> =>
    (await context.origin.listen({ behaviour: "count", act: "answer", name })).port;
  context.ports = { a: await serve("a"), b: await serve("b"), c: await serve("c") };
  const { a, b, c } = context.ports;
  const address = (port: number, weight = 1): string => `{ address: "10.77.0.2:${port}", weight: ${weight} }`;
  context.proxy = await context.world.proxy(`
listeners:
  - { name: weighted, bind: "127.0.0.1:0", upstream: weighted }
  - { name: crippled, bind: "127.0.0.1:0", upstream: crippled }
  - { name: silenced, bind: "127.0.0.1:0", upstream: silenced }
upstreams:
  weighted: { servers: [${address(a, 3)}, ${address(b, 2)}, ${address(c)}] }
  crippled: { servers: [${address(a)}, ${address(DEAD_PORT, 2)}, ${address(b)}], connectTimeout: ${CONNECT_TIMEOUT_MS}ms }
  silenced: { servers: [{ address: "10.77.0.99:80" }, ${address(c)}], connectTimeout: ${CONNECT_TIMEOUT_MS}ms }
workers: 1
`);
  await context.proxy.ready();
});
roundRobin.after(async ({ world }) => {
  await world.close();
});

roundRobin(
  "given weights 3, 2 and 1, then sessions are spread accordingly and accelerated to each",
  async (context) => {
    assert.equal(shares(await send(context, context.proxy, "weighted", 60)), { a: 30, b: 20, c: 10 });
    const pools = (await context.proxy.status()).pools.filter(({ upstream }) => upstream === "weighted");
    assert.equal(
      pools.map(({ hits, misses }) => hits + misses),
      [30, 20, 10],
    );
    assert.ok(pools.every(({ hits }) => hits > 0));
  },
);

roundRobin("given a server that refuses, then its clients are served by the others", async (context) => {
  const counts = shares(await send(context, context.proxy, "crippled", 40));
  assert.is((counts.a ?? 0) + (counts.b ?? 0), 40);
  assert.ok(counts.a! >= 8 && counts.b! >= 8, JSON.stringify(counts));
});

roundRobin(
  "given a server that does not answer, then its clients are served within connectTimeout",
  async (context) => {
    const outcomes = await send(context, context.proxy, "silenced", 8);
    assert.equal(shares(outcomes), { c: 8 });
    for (const { tookMs } of outcomes) assert.ok(tookMs <= CONNECT_TIMEOUT_MS + 300, `${tookMs} ms`);
  },
);

roundRobin(
  "given a server that goes down while in use, then no client notices, and it is used again later",
  async (context) => {
    const { origin, proxy, ports } = context;
    const listening = await origin.listen({ behaviour: "count", act: "answer", name: "d" });
    const restarted = await context.world.proxy(`
listeners: [{ name: web, bind: "127.0.0.1:0", upstream: pair }]
upstreams: { pair: { servers: [{ address: "10.77.0.2:${listening.port}" }, { address: "10.77.0.2:${ports.a}" }] } }
workers: 1
`);
    await restarted.ready();
    assert.equal(shares(await send(context, restarted, "web", 10)), { a: 5, d: 5 });
    await listening.close();
    assert.equal(shares(await send(context, restarted, "web", 20)), { a: 20 });
    await origin.listen({ behaviour: "count", act: "answer", name: "d" }, listening.port);
    await restarted.until("used again", async () => shares(await send(context, restarted, "web", 4)).d === 2);
    assert.ok(proxy.said("half-opens paused").length > 0);
    assert.is(await restarted.stop(), 0);
  },
);

roundRobin("given a name with two addresses, then both are servers", async (context) => {
  const { world, origin } = context;
  const farther = await Peer.start(world, "farther");
  const there = await farther.listen({ behaviour: "count", act: "answer", name: "farther" });
  const here = await origin.listen({ behaviour: "count", act: "answer", name: "far" }, there.port);
  const hosts = join(world.folder, "hosts");
  writeFileSync(
    hosts,
    `127.0.0.1 localhost\n${world.far.address()} origin.test\n${world.lab.host("farther").address()} origin.test\n`,
  );
  const named = await world.proxy(
    `
listeners: [{ name: web, bind: "127.0.0.1:0", upstream: named }]
upstreams: { named: { servers: [{ address: "origin.test:${here.port}" }] } }
workers: 1
`,
    { prefix: ["unshare", "-m", "sh", "-c", `mount --bind ${hosts} /etc/hosts && exec "$@"`, "sh"] },
  );
  await named.ready();
  assert.equal(shares(await send(context, named, "web", 20)), { far: 10, farther: 10 });
  const { pools } = await named.status();
  assert.equal(
    pools.map(({ server }) => server).sort(),
    [`${world.far.address()}:${here.port}`, `${world.lab.host("farther").address()}:${here.port}`].sort(),
  );
  assert.ok(pools.every(({ hits }) => hits > 0));
});
roundRobin.run();
