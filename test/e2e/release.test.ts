// Goal: what the proxy gives up leaves nothing behind at the upstream, and what it keeps is never reset.
// Method: the far host's socket table after the proxy's end, captures of RSTs, packets dropped by the lab.
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readPcap } from "../../bench/lab/lab.ts";
import { RST, SYN } from "../../native/wire/tcp.ts";
import { LineClient, serve, sleep } from "./lines.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 20;
const PORTS = [8080, 8081] as const;

const running: ProxyProcess[] = [];

/** A proxy with a pool of eight for each of the far host's ports, listeners p8080 and p8081; ended after its test. */
async function start(world: World): Promise<ProxyProcess> {
  const listeners = PORTS.map((port) => `  - { name: p${port}, bind: "127.0.0.1:0", upstream: u${port} }`);
  const upstreams = PORTS.map(
    (port) =>
      `  u${port}: { servers: [{ address: "${world.far.address()}:${port}" }], pool: { min: 8, max: 16 } }`,
  );
  const proxy = await world.proxy(
    ["listeners:", ...listeners, "upstreams:", ...upstreams, "workers: 1", "drainTimeout: 1s"].join("\n"),
  );
  running.push(proxy);
  await proxy.ready();
  return proxy;
}

/** Connections the far host has in a state, of our ports. */
async function farSockets(world: World, state: string): Promise<string[]> {
  const args = ["-tanH", "state", state, "( sport = :8080 or sport = :8081 )"];
  const { stdout } = await world.far.run("ss", args);
  return stdout.split("\n").filter((line) => line !== "");
}

/** Resolves with how long it took until the far host had none left, in ms. */
async function untilNone(world: World, state: string, limitMs: number): Promise<number> {
  const startedAt = performance.now();
  for (;;) {
    const left = await farSockets(world, state);
    const elapsedMs = performance.now() - startedAt;
    if (left.length === 0) return elapsedMs;
    if (elapsedMs > limitMs) throw new Error(`still there after ${limitMs} ms:\n${left.join("\n")}`);
    await sleep(20);
  }
}

const release = suite<{ world: World; client: LineClient }>("release");

release.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  await serve(
    context.world,
    "far",
    PORTS.map((port) => ({ port })),
  );
  context.client = await LineClient.on(context.world, "near");
});

release.after(async ({ world }) => {
  await world?.close();
});

release.after.each(async ({ world }) => {
  for (const proxy of running.splice(0)) await proxy.stop();
  await world.lab.link().clearFilter();
});

release("given SIGTERM under load, then no half-open of ours is left", async ({ world, client }) => {
  const proxy = await start(world);
  const load = Array.from({ length: 20 }, () => client.request("127.0.0.1", proxy.port("p8080")));
  // Who comes while a listener closes is turned away by the kernel, here as anywhere.
  await proxy.until(
    "all were let in",
    async () => (await proxy.status()).listeners[0]!.total === load.length,
  );
  assert.ok((await farSockets(world, "syn-recv")).length >= 8);
  assert.is(await proxy.stop(), 0);
  for (const { error } of await Promise.all(load)) assert.is(error, undefined);
  await sleep(2 * RTT_MS);
  assert.equal(await farSockets(world, "syn-recv"), []);
});

release("given SIGTERM while a session goes on, then the half-opens do not wait for it", async (context) => {
  const { world, client } = context;
  const proxy = await start(world);
  const session = await client.request("127.0.0.1", proxy.port("p8080"), { hold: true });
  const ended = proxy.stop();
  await untilNone(world, "syn-recv", 500);
  assert.is((await farSockets(world, "established")).length, 1);
  client.drop(session);
  assert.is(await ended, 0);
});

release("given SIGKILL, then none outlives the upstream's own timeout", async ({ world }) => {
  world.far.sysctl({ "net.ipv4.tcp_synack_retries": 1 }); // gives up 1 + 2 s after the SYN
  const proxy = await start(world);
  assert.ok((await farSockets(world, "syn-recv")).length >= 16);
  assert.is(await proxy.stop("SIGKILL"), null);
  await untilNone(world, "syn-recv", 3_500);
  world.far.sysctl({ "net.ipv4.tcp_synack_retries": 5 });
});

release(
  "given refreshes, shared ports and finished sessions, then no live half-open is reset",
  async (context) => {
    const { world, client } = context;
    const capture = join(world.folder, "resets.pcap");
    await world.lab.link().record({ near: capture });
    const proxy = await start(world);
    const startedAt = performance.now();
    while (performance.now() - startedAt < 4_000) {
      const name = PORTS[Math.floor(Math.random() * 2)];
      const close = Math.random() < 0.5;
      const { error } = await client.request("127.0.0.1", proxy.port(`p${name}`), { close });
      assert.is(error, undefined);
    }
    const { pools } = await proxy.status();
    await world.lab.link().stopRecording();
    for (const { replays, tainted, vanished } of pools) assert.equal([replays, tainted, vanished], [0, 0, 0]);

    const alive = new Map<string, number>();
    const ports = PORTS.map(() => new Set<number>());
    let [refreshes, uses] = [0, 0];
    // Backwards in time: what is sent later for the same handshake was alive when a RST left.
    for (const { tcp } of readPcap(capture).reverse()) {
      const upstream = PORTS.indexOf(tcp?.dport as (typeof PORTS)[number]);
      if (!tcp || upstream < 0) continue;
      const connection = `${tcp.sport} ${tcp.dport}`;
      if ((tcp.flags & SYN) !== 0) {
        if (alive.get(connection) === tcp.seq) refreshes += 1;
        alive.set(connection, tcp.seq);
        ports[upstream]!.add(tcp.sport);
      } else if ((tcp.flags & RST) !== 0) {
        const iss = alive.get(connection);
        assert.ok(iss === undefined || tcp.seq !== (iss + 1) >>> 0, `RST for ${connection} alive`);
      } else if (tcp.payloadEnd > tcp.payloadStart) {
        alive.set(connection, (tcp.seq - 1) >>> 0);
        uses += 1;
      }
    }
    const shared = [...ports[0]!].filter((port) => ports[1]!.has(port));
    assert.ok(refreshes > 20, `${refreshes} refreshes`);
    assert.ok(uses > 30, `${uses} uses`);
    assert.ok(shared.length > 4, `${shared.length} ports used for both upstreams`);
  },
);

for (const { given, flags, reset } of [
  { given: "our FIN was lost", flags: "FA", reset: false },
  { given: "our RST was lost", flags: "RA", reset: true },
]) {
  release(`given ${given}, then the upstream's socket does not linger`, async ({ world, client }) => {
    const proxy = await start(world);
    const outcome = await client.request("127.0.0.1", proxy.port("p8080"), { hold: true });
    assert.is(outcome.error, undefined);
    assert.is((await farSockets(world, "established")).length, 1);
    await world.lab.link().setFilter({
      rules: [{ name: "first", action: "drop", from: "near", dport: 8080, flags, limit: 1 }],
    });
    client.drop(outcome, reset);
    await untilNone(world, "established", 1_500);
    const { rules } = await world.lab.link().counters();
    assert.is(rules.first?.acted, 1, "nothing was dropped");
    await untilNone(world, "close-wait", 1_500);
    await untilNone(world, "last-ack", 1_500);
  });
}

release.run();
