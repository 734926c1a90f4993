// alone
// drivers: io_uring, epoll
// Goal: half-opens harm nobody: not the clients of other upstreams, not the upstream's other clients.
// Method: the proxy and a server in the lab; what it holds is read from the server's kernel and from captures.
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readPcap } from "../../bench/lab/lab.ts";
import { listenTcp } from "../../native/net/tcp-socket.ts";
import { ACK, RST, SYN } from "../../native/wire/tcp.ts";
import type { PoolStatus } from "../../proxy/status.ts";
import { LineClient, serve, sleep } from "./lines.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 20;
const CONNECT_TIMEOUT_MS = 1_000;
const GOOD = 8080;

interface UpstreamOptions {
  readonly port: number;
  readonly pool?: string;
}

const running: ProxyProcess[] = [];

/** A proxy with one listener and upstream per name, on loopback ports the system chooses; ended after its test. */
async function start(
  world: World,
  upstreams: Readonly<Record<string, UpstreamOptions>>,
): Promise<ProxyProcess> {
  const names = Object.entries(upstreams);
  const listeners = names.map(([name]) => `  - { name: ${name}, bind: "127.0.0.1:0", upstream: ${name} }`);
  const servers = names.map(
    ([name, { port, pool = "{}" }]) =>
      `  ${name}: { servers: [{ address: "${world.far.address()}:${port}" }], connectTimeout: 1s, pool: ${pool} }`,
  );
  const proxy = await world.proxy(
    ["listeners:", ...listeners, "upstreams:", ...servers, "workers: 1", "drainTimeout: 1s"].join("\n"),
  );
  running.push(proxy);
  return proxy;
}

async function pool(proxy: ProxyProcess, upstream: string): Promise<PoolStatus> {
  const found = (await proxy.status()).pools.find(({ upstream: name }) => name === upstream);
  if (!found) throw new Error(`no pool of ${upstream}`);
  return found;
}

/** Half-opens the far host's listener on this port has. */
async function synReceived(world: World, port: number): Promise<number> {
  const { stdout } = await world.far.run("ss", ["-tanH", "state", "syn-recv", `( sport = :${port} )`]);
  return stdout.split("\n").filter((line) => line !== "").length;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

const neighbour = suite<{ world: World; client: LineClient }>("good neighbour");

neighbour.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  await serve(context.world, "far", [
    { port: GOOD },
    { port: 8064, backlog: 64 },
    { port: 8016, backlog: 16 },
  ]);
  context.client = await LineClient.on(context.world, "near");
});

neighbour.after(async ({ world }) => {
  await world?.close();
});

neighbour.after.each(async ({ world }) => {
  for (const proxy of running.splice(0)) await proxy.stop();
  await world.lab.link().clearFilter();
  world.far.sysctl({ "net.ipv4.tcp_syncookies": 0 });
});

for (const { given, upstream, prepare, reason, limitMs } of [
  {
    given: "an upstream that refuses",
    upstream: 9001,
    prepare: async () => {},
    reason: "upstream refuses connections",
    limitMs: 500,
  },
  {
    given: "an upstream that swallows everything",
    upstream: 9002,
    prepare: (world: World) =>
      world.lab.link().setFilter({ rules: [{ name: "hole", action: "drop", dport: 9002 }] }),
    reason: "upstream does not answer",
    limitMs: CONNECT_TIMEOUT_MS + 500,
  },
] as const) {
  neighbour(`given ${given}, then its clients wait a bounded time and others none`, async (context) => {
    const { world, client } = context;
    await prepare(world);
    const proxy = await start(world, { bad: { port: upstream }, good: { port: GOOD } });
    await proxy.ready();
    const badly = Array.from({ length: 5 }, () =>
      client.request("127.0.0.1", proxy.port("bad"), { timeoutMs: 5_000 }),
    );
    const times: number[] = [];
    for (let i = 0; i < 10; i++) {
      const { error, firstByteMs } = await client.request("127.0.0.1", proxy.port("good"));
      assert.is(error, undefined);
      times.push(firstByteMs);
    }
    assert.ok(median(times) < 1.5 * RTT_MS, `others wait ${median(times)} ms`);
    for (const { error, lastByteMs } of await Promise.all(badly)) {
      assert.is(error, "ECONNRESET");
      assert.ok(lastByteMs < limitMs, `reset after ${lastByteMs} ms`);
    }
    const lines = proxy.said("half-opens paused");
    assert.equal(
      lines.map((line) => [line.upstream, line.server, line.reason]),
      [["bad", `${world.far.address()}:${upstream}`, reason]],
    );
  });
}

for (const syncookies of [0, 1]) {
  const given = `given a full accept queue with syncookies=${syncookies}`;
  neighbour(`${given}, then its clients wait a bounded time and others none`, async ({ world, client }) => {
    world.far.sysctl({ "net.ipv4.tcp_syncookies": syncookies });
    const port = 9010 + syncookies;
    using listener = world.far.enter(() => listenTcp({ address: "0.0.0.0", port }, 8));
    assert.ok(listener.isOpen); // and never accepts
    // Few half-opens, so that those who fill the accept queue find room in the SYN queue of eight.
    const proxy = await start(world, { bad: { port, pool: "{ max: 3 }" }, good: { port: GOOD } });
    await proxy.ready();
    // The queue holds nine; whoever comes later finds it full.
    const filling = [1, 2, 3, 4].flatMap((wave) =>
      [1, 2, 3].map(async () => {
        await sleep(wave * 50);
        return client.request(world.far.address(), port, { timeoutMs: 500 });
      }),
    );
    await sleep(300);
    const badly = Array.from({ length: 5 }, () =>
      client.request("127.0.0.1", proxy.port("bad"), { timeoutMs: 8_000 }),
    );
    const times: number[] = [];
    for (let i = 0; i < 10; i++) {
      const { error, firstByteMs } = await client.request("127.0.0.1", proxy.port("good"));
      assert.is(error, undefined);
      times.push(firstByteMs);
    }
    assert.ok(median(times) < 1.5 * RTT_MS, `others wait ${median(times)} ms`);
    for (const { error, lastByteMs } of await Promise.all(badly)) {
      assert.is(error, "ECONNRESET");
      assert.ok(lastByteMs < 4_500, `reset after ${lastByteMs} ms`); // the first flight's silence counts 3 s
    }
    await Promise.all(filling);
    assert.ok(proxy.log.some(({ upstream, level }) => upstream === "bad" && level >= 40));
  });
}

neighbour("given a backlog of 64 and no cookies, then half of it stays free", async ({ world, client }) => {
  const proxy = await start(world, { small: { port: 8064, pool: "{ max: 128, maxSynRate: 2000 }" } });
  await proxy.ready();
  const startedAt = performance.now();
  while (performance.now() - startedAt < 2_500) {
    const burst = Array.from({ length: 50 }, () => client.request("127.0.0.1", proxy.port("small")));
    await sleep(150);
    await Promise.all(burst);
  }
  // The last burst may have been answered a moment ago only.
  const settledBy = performance.now() + 1_000;
  while ((await synReceived(world, 8064)) > 32 && performance.now() < settledBy) await sleep(50);
  for (let i = 0; i < 5; i++) {
    const held = await synReceived(world, 8064);
    assert.ok(held <= 32, `${held} half-opens held`);
    const { error, firstByteMs } = await client.request(world.far.address(), 8064, { timeoutMs: 900 });
    assert.is(error, undefined);
    assert.ok(firstByteMs < 900, `an ordinary client waited ${firstByteMs} ms`);
    await sleep(200);
  }
  assert.ok(proxy.said("upstream drops SYNs, holding fewer half-opens").length > 0);
});

/** A cookie's ISN changes once a minute, which spoils a canary of that second; the next comes 10 s later. */
const COOKIES_WITHIN = 25_000;

neighbour("given an upstream that only makes cookies, then it is found and gets half", async (context) => {
  const { world, client } = context;
  world.far.sysctl({ "net.ipv4.tcp_syncookies": 2 });
  const proxy = await start(world, { o: { port: GOOD, pool: "{ max: 32 }" } });
  await proxy.ready();
  await Promise.all(Array.from({ length: 12 }, () => client.request("127.0.0.1", proxy.port("o"))));
  await sleep(100);
  const before = await pool(proxy, "o");
  await proxy.until("cookies found", async () => (await pool(proxy, "o")).cookies, COOKIES_WITHIN);
  await sleep(100);
  const after = await pool(proxy, "o");
  assert.ok(after.target <= before.target / 2 + 1, `target ${before.target}, then ${after.target}`);
  assert.is(proxy.said("upstream answers with SYN cookies").length, 1);
  const { error, bytes } = await client.request("127.0.0.1", proxy.port("o"), { size: 100_000 });
  assert.equal([error, bytes], [undefined, 100_000]);
});

neighbour("given maxSynRate, then no more SYNs leave, repetitions included", async ({ world, client }) => {
  const proxy = await start(world, { o: { port: GOOD, pool: "{ min: 32, max: 64, maxSynRate: 20 }" } });
  const capture = join(world.folder, "rate.pcap");
  await sleep(500);
  await world.lab.link().record({ near: capture });
  const requests = Array.from({ length: 30 }, async (_, index) => {
    await sleep(index * 100);
    return client.request("127.0.0.1", proxy.port("o"));
  });
  for (const { error } of await Promise.all(requests)) assert.is(error, undefined);
  await world.lab.link().stopRecording();
  const status = await pool(proxy, "o");
  const ours = readPcap(capture).filter(({ tcp }) => tcp && (tcp.flags & (SYN | ACK)) === SYN);
  const seconds = (ours.at(-1)!.timeMs - ours[0]!.timeMs) / 1_000;
  const count = ours.length - status.misses; // a miss is an ordinary connection with a SYN of its own
  assert.ok(seconds > 2.5, `${seconds} s of SYNs`);
  assert.ok(count <= 20 * seconds * 1.1 + 3, `${count} SYNs in ${seconds} s`);
  assert.ok(count >= 20 * seconds * 0.5, `${count} SYNs in ${seconds} s: the limit was not reached`);
});

neighbour("given maxAge, then entries are replaced at it and given up politely", async ({ world }) => {
  const proxy = await start(world, { o: { port: GOOD, pool: "{ min: 4, max: 8, maxAge: 1s }" } });
  const capture = join(world.folder, "age.pcap");
  await world.lab.link().record({ near: capture });
  await proxy.ready();
  await sleep(3_500);
  const { halfOpen, vanished, tainted } = await pool(proxy, "o");
  await world.lab.link().stopRecording();
  assert.equal([vanished, tainted], [0, 0]);
  assert.ok(halfOpen >= 4 && halfOpen <= 8, `${halfOpen} half-opens`);
  const syns = new Map<string, number[]>();
  const resets = new Set<number>();
  for (const { tcp, timeMs } of readPcap(capture)) {
    if (tcp?.dport !== GOOD) continue;
    const entry = `${tcp.sport} ${tcp.seq}`; // ports are used again
    if ((tcp.flags & (SYN | ACK)) === SYN) syns.set(entry, [...(syns.get(entry) ?? []), timeMs]);
    if ((tcp.flags & RST) !== 0) resets.add(tcp.sport);
  }
  const lives = [...syns.values()].map((times) => times.at(-1)! - times[0]!);
  assert.ok(Math.max(...lives) < 1_900, `an entry lived ${Math.max(...lives)} ms`);
  assert.ok(syns.size >= 8, `${syns.size} entries in 3.5 s`);
  assert.ok(resets.size >= 4, `${resets.size} given up with a RST`);
});

neighbour.run();
