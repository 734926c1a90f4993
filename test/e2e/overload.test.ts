// drivers: io_uring, epoll
// Goal: at every limit accepted sessions go on, new clients wait, nobody is turned away, and a place that becomes free is
// given to the next client at once, in whichever worker it waits; waiting costs no processor time.
// Method: more clients than places, which hold their sessions until the test ends one; a low limit of open files, and
// one that is lowered below what the proxy has open while it runs.
import { readdirSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cpuBetween, readCpu } from "../../bench/measure/cpu.ts";
import { LineClient, type Outcome, serve, sleep } from "./lines.ts";
import { median, Peer, type PeerConnection } from "./peer.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 2;
const PORT = 8080;
const OPEN_FILES = 320;
const WAITING = "no descriptor or memory for a connection (see docs/operating/tune.md)";

interface Context {
  world: World;
  client: LineClient;
  talker: Peer;
  echo: number;
}

/** Clients that hold their sessions; `served` grows as they get their answers. */
class Crowd {
  readonly served: Outcome[] = [];
  readonly #client: LineClient;
  readonly #all: Promise<unknown>;

  constructor(client: LineClient, port: number, count: number) {
    this.#client = client;
    const requests = Array.from({ length: count }, async () => {
      const outcome = await client.request("127.0.0.1", port, { hold: true, timeoutMs: 30_000 });
      this.served.push(outcome);
    });
    this.#all = Promise.all(requests);
  }

  drop(): void {
    const outcome = this.served[this.#dropped++];
    if (outcome !== undefined && outcome.error === undefined) this.#client.drop(outcome);
  }
  #dropped = 0;

  /** Ends every session, each as it was served. */
  async finish(): Promise<void> {
    const timer = setInterval(() => {
      while (this.#dropped < this.served.length) this.drop();
    }, 5);
    await this.#all;
    while (this.#dropped < this.served.length) this.drop();
    clearInterval(timer);
    assert.equal(
      this.served.flatMap(({ error }) => error ?? []),
      [],
    );
  }
}

const active = async (proxy: ProxyProcess): Promise<number> =>
  (await proxy.status()).listeners.reduce((sum, listener) => sum + listener.active, 0);

const openFiles = ({ child }: ProxyProcess): number => readdirSync(`/proc/${child.pid}/fd`).length;

/** What it uses of a processor while everybody waits. */
async function idleShare({ child }: ProxyProcess): Promise<number> {
  const before = readCpu(child.pid!);
  await sleep(1_000);
  const { userUs, systemUs } = cpuBetween(before, readCpu(child.pid!));
  return (userUs + systemUs) / 1e6;
}

async function limitOpenFiles(world: World, { child }: ProxyProcess, limit: number): Promise<void> {
  const { code, stderr } = await world.near.run("prlimit", [`--pid=${child.pid}`, `--nofile=${limit}:`]);
  assert.is(code, 0, stderr);
}

/**
 * Clients for the accepts that were under way when the limit was lowered: those still have the limit they began with, and
 * reset their client for want of a socket. So many that no worker is left out, however the kernel spreads them.
 */
async function meetOldLimits(client: LineClient, proxy: ProxyProcess): Promise<void> {
  const late = () => client.request("127.0.0.1", proxy.port("web"), { timeoutMs: 150 });
  for (let turn = 0; turn < 12; turn++) await Promise.all(Array.from({ length: 5 }, late));
}

function start(
  { world, echo }: Context,
  { maxConnections = 10_000, prefix = [] as string[] } = {},
): Promise<ProxyProcess> {
  return world.proxy(
    `
listeners:
  - { name: web, bind: "127.0.0.1:0", upstream: origin, maxConnections: ${maxConnections} }
  - { name: talk, bind: "127.0.0.1:0", upstream: echo }
upstreams:
  origin: { servers: [{ address: "${world.far.address()}:${PORT}" }] }
  echo: { servers: [{ address: "${world.far.address()}:${echo}" }] }
workers: 3`,
    { prefix },
  );
}

const overload = suite<Context>("overload");
overload.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  await serve(context.world, "far", [{ port: PORT, backlog: 1_024 }]);
  context.client = await LineClient.on(context.world, "near");
  context.talker = await Peer.start(context.world, "near");
  context.echo = (await (await Peer.start(context.world, "far")).listen({ behaviour: "echo" })).port;
});
overload.after(async ({ world }) => {
  await world.close();
});

overload(
  "given maxConnections, then clients of all workers enter one by one as others leave",
  async (context) => {
    const places = 5;
    const proxy = await start(context, { maxConnections: places });
    await proxy.ready();
    const crowd = new Crowd(context.client, proxy.port("web"), 60);
    await proxy.until("all places taken", () => crowd.served.length >= places);
    assert.ok((await idleShare(proxy)) < 0.1);
    assert.is(crowd.served.length, places);
    assert.is(await active(proxy), places);
    const afterMs: number[] = [];
    for (let turn = 1; turn <= 30; turn++) {
      const droppedMs = performance.now();
      crowd.drop();
      while (crowd.served.length < places + turn) await sleep(0.5);
      afterMs.push(performance.now() - droppedMs);
    }
    console.log(`  the next client is answered ${median(afterMs).toFixed(1)} ms after a session ended`);
    assert.ok(median(afterMs) < 15, `${afterMs}`);
    await crowd.finish();
    await proxy.until("nobody left", async () => (await active(proxy)) === 0);
    assert.is(await proxy.stop(), 0);
  },
);

overload(
  "given few open files, then every session has both of its own, and a burst waits",
  async (context) => {
    const { client, talker } = context;
    const prefix = ["prlimit", `--nofile=${OPEN_FILES}:${OPEN_FILES}`, "--"];
    const proxy = await start(context, { prefix });
    await proxy.ready();
    const [implied] = proxy.said("the limit of open files admits fewer sessions than maxConnections");
    assert.is(implied?.openFiles, OPEN_FILES);
    const longLived: PeerConnection[] = [];
    for (let index = 0; index < 5; index++) longLived.push(await talker.connect(proxy.port("talk")));
    const talk = async (text: string): Promise<void> => {
      for (const connection of longLived) await connection.write(text);
      for (const connection of longLived) await connection.heard(text);
    };
    await talk("before");
    const crowd = new Crowd(client, proxy.port("web"), 300);
    await proxy.until("as many as there is room for", async () => {
      const before = crowd.served.length;
      await sleep(500);
      return before > 0 && crowd.served.length === before;
    });
    const sessions = await active(proxy);
    console.log(`  ${sessions} sessions with ${OPEN_FILES} open files, ${openFiles(proxy)} in use`);
    assert.ok(sessions >= Number(implied?.sessions), `${sessions} of ${implied?.sessions}`);
    assert.ok((await idleShare(proxy)) < 0.1);
    await talk("meanwhile");
    await crowd.finish();
    await talk("afterwards");
    assert.ok(longLived.every((connection) => !connection.has("error") && !connection.has("end")));
    assert.equal(proxy.said(WAITING), []);
    for (const connection of longLived) await connection.end();
    await proxy.until("nobody left", async () => (await active(proxy)) === 0);
    const { error } = await client.request("127.0.0.1", proxy.port("web"));
    assert.is(error, undefined);
    assert.is(await proxy.stop(), 0);
  },
);

overload("given no descriptor left, then whoever ends a session lets the next client in", async (context) => {
  const { client, world } = context;
  const proxy = await start(context);
  await proxy.ready();
  const first = new Crowd(client, proxy.port("web"), 20);
  await proxy.until("sessions", () => first.served.length === 20);
  await limitOpenFiles(world, proxy, 16); // less than the proxy itself has open
  await meetOldLimits(client, proxy);
  await proxy.until("a warning", () => proxy.said(WAITING).length > 0);
  assert.ok((await idleShare(proxy)) < 0.1);
  assert.ok(first.served.every(({ error }) => error === undefined));
  const next = new Crowd(client, proxy.port("web"), 20);
  await sleep(300);
  assert.is(next.served.length, 0);
  await limitOpenFiles(world, proxy, 4_096);
  await sleep(300);
  assert.is(next.served.length, 0, "somebody looks again without a reason");
  const droppedMs = performance.now();
  first.drop();
  await proxy.until("the waiting are served", () => next.served.length === 20);
  console.log(`  20 clients answered ${(performance.now() - droppedMs).toFixed(0)} ms after a session ended`);
  await next.finish();
  await first.finish();
  assert.is(await proxy.stop(), 0);
});

overload(
  "given no descriptor and no session, then clients are served within a second of the cure",
  async (context) => {
    const { client, world } = context;
    const proxy = await start(context);
    await proxy.ready();
    await limitOpenFiles(world, proxy, 16);
    await meetOldLimits(client, proxy);
    const crowd = new Crowd(client, proxy.port("web"), 20);
    await sleep(300);
    assert.is(crowd.served.length, 0);
    await limitOpenFiles(world, proxy, 4_096);
    const curedMs = performance.now();
    await proxy.until("the waiting are served", () => crowd.served.length === 20);
    assert.ok(performance.now() - curedMs < 1_500);
    await crowd.finish();
    assert.is(await proxy.stop(), 0);
  },
);

overload(
  "given fewer ports than half-opens, then the pool has those, and a line says why",
  async ({ world }) => {
    const key = "net.ipv4.ip_local_port_range";
    const before = (await world.near.run("sysctl", ["-n", key])).stdout.trim();
    world.near.sysctl({ [key]: "65400 65431" }); // with few above them, so that none are steered
    try {
      const proxy = await world.proxy(`
listeners: [{ name: web, bind: "127.0.0.1:0", upstream: o }]
upstreams: { o: { servers: [{ address: "${world.far.address()}:${PORT}" }], pool: { min: 64, max: 64 } } }`);
      const said =
        "no port for a half-open: widen net.ipv4.ip_local_port_range or raise the descriptor limit";
      await proxy.until("a warning", () => proxy.said(said).length > 0);
      await proxy.until("half-opens", async () => (await proxy.status()).pools[0]!.halfOpen > 10);
      assert.ok((await proxy.status()).pools[0]!.halfOpen <= 32);
      assert.is(await proxy.stop(), 0);
    } finally {
      world.near.sysctl({ [key]: before });
    }
  },
);

overload.run();
