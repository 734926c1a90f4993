// Goal: a socket made of a half-open is the socket an ordinary connection on that path would be, on both ends.
// Method: one of each at the same time; ss(8) on both hosts after the first response; the SYNs byte for byte.
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readPcap } from "../../bench/lab/lab.ts";
import { ACK, SYN } from "../../native/wire/tcp.ts";
import { LineClient, type Outcome, serve, sleep } from "./lines.ts";
import { NEGOTIATED, pick, socketInfo } from "./socket-info.ts";
import { type ProxyProcess, RAW_HEARING, World } from "./world.ts";

const PORT = 8080;
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];

const DEFAULTS = {
  "net.ipv4.tcp_syncookies": 0,
  "net.ipv4.tcp_timestamps": 1,
  "net.ipv4.tcp_window_scaling": 1,
  "net.ipv4.tcp_sack": 1,
};

const running: ProxyProcess[] = [];

const target = (world: World, family: Family): string =>
  family === 4 ? world.far.address(4) : world.far.address(6);

/** A proxy with listeners v4 and v6 towards the far host over that family; ended after its test. */
async function start(world: World, prefix: readonly string[] = []): Promise<ProxyProcess> {
  const config = `
listeners:
  - { name: v4, bind: "127.0.0.1:0", upstream: v4 }
  - { name: v6, bind: "127.0.0.1:0", upstream: v6 }
upstreams:
  v4: { servers: [{ address: "${target(world, 4)}:${PORT}" }] }
  v6: { servers: [{ address: "[${target(world, 6)}]:${PORT}" }] }
workers: 1
drainTimeout: 1s`;
  const proxy = await world.proxy(config, { prefix });
  running.push(proxy);
  await proxy.ready();
  return proxy;
}

/** Requests through the proxy and past it; the connections stay open until `drop`. */
async function both(world: World, client: LineClient, proxy: ProxyProcess, family: Family, size: number) {
  const outcomes: readonly [Outcome, Outcome] = await Promise.all([
    client.request("127.0.0.1", proxy.port(`v${family}`), { size, hold: true }),
    client.request(target(world, family), PORT, { size, hold: true }),
  ]);
  for (const { error, bytes } of outcomes) assert.equal([error, bytes], [undefined, size]);
  await sleep(100); // the last ACKs are on their way
  const ordinary = outcomes[1].localPort;
  const near = await socketInfo(world.near, `( dport = :${PORT} )`, "local");
  const far = await socketInfo(world.far, `( sport = :${PORT} )`, "peer");
  const materialized = [...near.keys()].find((port) => port !== ordinary);
  if (materialized === undefined) throw new Error("no connection of the proxy");
  for (const outcome of outcomes) client.drop(outcome);
  return { near, far, materialized, ordinary };
}

/** Both ends show the same for the two connections, at least once in three times; returns what. */
async function assertAlike(
  world: World,
  client: LineClient,
  proxy: ProxyProcess,
  family: Family,
): Promise<Record<string, string>> {
  for (let attempt = 1; ; attempt++) {
    const { near, far, materialized, ordinary } = await both(world, client, proxy, family, 5_000);
    const [shown, expected] = [materialized, ordinary].map((port) => {
      const [nearInfo, farInfo] = [near.get(port), far.get(port)];
      if (!nearInfo || !farInfo) throw new Error(`no connection of port ${port}`);
      return { near: pick(nearInfo, NEGOTIATED), far: pick(farInfo, NEGOTIATED) };
    });
    Object.assign(shown!.near, equivalent(shown!.near, expected!.near));
    // How much our window has grown depends on which segments were acknowledged together.
    const windows = [shown!.far, expected!.far].map((end) => Number(end.snd_wnd));
    if (Math.abs(windows[0]! - windows[1]!) <= 2 * Number(expected!.far.mss)) {
      shown!.far.snd_wnd = expected!.far.snd_wnd!;
    }
    if (attempt < 3 && !isDeepStrictEqual(shown, expected)) continue;
    assert.equal(shown, expected);
    return expected!.near;
  }
}

/**
 * Two values that look different and are the same. No window scaling is restored as a shift of 0 both ways.
 * Where only the server has no timestamps, mss is what connect() computed with them; segments are as long as
 * an ordinary connection's all the same (tcp_current_mss), as a test below sees on the wire.
 */
function equivalent(shown: Record<string, string>, expected: Record<string, string>): Record<string, string> {
  const same: Record<string, string> = {};
  if (shown.wscale === "0,0" && expected.wscale === "none") same.wscale = "none";
  if (shown.ts === "none" && Number(shown.mss) === Number(expected.mss) - 12) same.mss = expected.mss ?? "";
  return same;
}

const alike = suite<{ world: World; client: LineClient }>("materialized sockets");

alike.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: 20 }] });
  await serve(context.world, "far", [{ port: PORT }]);
  context.client = await LineClient.on(context.world, "near");
});

alike.after(async ({ world }) => {
  await world?.close();
});

alike.before.each(({ world }) => {
  world.far.sysctl(DEFAULTS);
  world.near.sysctl({ "net.ipv4.tcp_timestamps": 1 });
});

alike.after.each(async () => {
  for (const proxy of running.splice(0)) await proxy.stop();
});

for (const { given, far = {}, near = {}, prefix = [], shows } of [
  { given: "a server with everything on", shows: { sack: "yes", ts: "yes", mss: "1448" } },
  { given: "no eBPF here", prefix: RAW_HEARING, shows: { sack: "yes", ts: "yes", mss: "1448" } },
  { given: "tcp_timestamps=0", far: { "net.ipv4.tcp_timestamps": 0 }, shows: { ts: "none", mss: "1460" } },
  { given: "tcp_window_scaling=0", far: { "net.ipv4.tcp_window_scaling": 0 }, shows: { wscale: "none" } },
  { given: "tcp_sack=0", far: { "net.ipv4.tcp_sack": 0 }, shows: { sack: "none" } },
  {
    given: "all of them 0",
    far: { "net.ipv4.tcp_timestamps": 0, "net.ipv4.tcp_window_scaling": 0, "net.ipv4.tcp_sack": 0 },
    shows: { ts: "none", sack: "none", wscale: "none" },
  },
  { given: "no timestamps here", near: { "net.ipv4.tcp_timestamps": 0 }, shows: { ts: "none" } },
] as const) {
  alike(`given ${given}, then both ends show what an ordinary connection shows`, async (context) => {
    const { world, client } = context;
    world.far.sysctl(far);
    world.near.sysctl(near);
    const proxy = await start(world, prefix);
    for (const family of FAMILIES) {
      const found = await assertAlike(world, client, proxy, family);
      const expected = {
        ...shows,
        ...("mss" in shows && family === 6 && { mss: String(Number(shows.mss) - 20) }),
      };
      assert.equal(pick(new Map(Object.entries(found)), Object.keys(expected)), expected);
    }
  });
}

alike("given SYN cookies, then both ends are alike once they are noticed", async ({ world, client }) => {
  world.far.sysctl({ "net.ipv4.tcp_syncookies": 2 });
  const proxy = await start(world);
  const noticed = async () => (await proxy.status()).pools.every(({ cookies }) => cookies);
  await proxy.until("cookies noticed", noticed, 25_000); // a minute's end spoils one canary
  for (const family of FAMILIES) await assertAlike(world, client, proxy, family);
});

/** ISNs are random: one run in 2^19 sees no large one in one of the families. */
const ISN_TRIES = 20;

alike(
  "given ISNs of the server from 2^31 on, then the connection is no different",
  async ({ world, client }) => {
    const proxy = await start(world);
    const capture = join(world.folder, "isn.pcap");
    await world.lab.link().record({ near: capture });
    const outcomes: Outcome[] = [];
    for (let i = 0; i < ISN_TRIES; i++) {
      for (const family of FAMILIES) {
        outcomes.push(
          await client.request("127.0.0.1", proxy.port(`v${family}`), { size: 50_000, timeoutMs: 2_000 }),
        );
      }
    }
    await world.lab.link().stopRecording();
    for (const { error, bytes } of outcomes) assert.equal([error, bytes], [undefined, 50_000]);
    const { pools } = await proxy.status();
    assert.equal(
      pools.map(({ hits, misses }) => [hits, misses]),
      [
        [ISN_TRIES, 0],
        [ISN_TRIES, 0],
      ],
    );
    const used = new Map<string, number>();
    for (const { tcp } of readPcap(capture)) {
      if (!tcp || tcp.dport !== PORT || tcp.payloadEnd === tcp.payloadStart) continue;
      used.set(`${tcp.src.length} ${tcp.sport}`, tcp.ack);
    }
    for (const length of [4, 16]) {
      const acks = [...used].filter(([key]) => key.startsWith(`${length} `)).map(([, ack]) => ack);
      assert.is(acks.length, ISN_TRIES);
      assert.ok(Math.max(...acks) >= 2 ** 31, `none of ${ISN_TRIES} random ISNs is that large`);
    }
  },
);

/** A SYN without what differs from one connection to the next. */
function comparable(bytes: Uint8Array): string {
  const syn = Buffer.from(bytes);
  const header = syn[0]! >> 4 === 4 ? 20 : 40;
  if (header === 20) {
    syn.fill(0, 4, 6); // id
    syn.fill(0, 10, 12); // checksum
  } else {
    syn[1]! &= 0xf0; // flow label
    syn.fill(0, 2, 4);
  }
  syn.fill(0, header, header + 2); // source port
  syn.fill(0, header + 4, header + 8); // seq
  syn.fill(0, header + 16, header + 18); // checksum
  for (let at = header + 20; at < syn.length; at += Math.max(1, syn[at] === 1 ? 1 : syn[at + 1]!)) {
    if (syn[at] === 8) syn.fill(0, at + 2, at + 6); // TSval
  }
  return syn.toString("hex");
}

for (const { given, near } of [
  { given: "the kernel's defaults", near: {} },
  { given: "no timestamps", near: { "net.ipv4.tcp_timestamps": 0 } },
  { given: "no SACK", near: { "net.ipv4.tcp_sack": 0 } },
  { given: "no window scaling", near: { "net.ipv4.tcp_window_scaling": 0 } },
  {
    given: "none of the options",
    near: { "net.ipv4.tcp_timestamps": 0, "net.ipv4.tcp_sack": 0, "net.ipv4.tcp_window_scaling": 0 },
  },
  {
    given: "a TTL of 77",
    near: {
      "net.ipv4.ip_default_ttl": 77,
      "net.ipv6.conf.all.hop_limit": 77,
      "net.ipv6.conf.wan0.hop_limit": 77,
    },
  },
  { given: "small receive buffers", near: { "net.ipv4.tcp_rmem": "4096 16384 65536" } },
  { given: "large receive buffers", near: { "net.ipv4.tcp_rmem": "4096 131072 33554432" } },
] as const) {
  alike(`given ${given}, then our SYN is the kernel's, byte for byte`, async ({ world, client }) => {
    const before = Object.keys(near).map(async (name) => {
      const { stdout } = await world.near.run("cat", [`/proc/sys/${name.replaceAll(".", "/")}`]);
      return [name, stdout.trim()] as const;
    });
    const restore = Object.fromEntries(await Promise.all(before));
    world.near.sysctl(near);
    const capture = join(world.folder, "syn.pcap");
    await world.lab.link().record({ near: capture });
    await start(world);
    const kernels = new Set<number>();
    for (const family of FAMILIES) kernels.add((await client.request(target(world, family), PORT)).localPort);
    await world.lab.link().stopRecording();
    world.near.sysctl(restore);
    const syns = readPcap(capture).filter(({ tcp }) => tcp && (tcp.flags & (SYN | ACK)) === SYN);
    for (const length of [4, 16]) {
      const ofFamily = syns.filter(({ tcp }) => tcp!.src.length === length);
      const [kernel] = ofFamily.filter(({ tcp }) => kernels.has(tcp!.sport));
      const ours = ofFamily.filter(({ tcp }) => !kernels.has(tcp!.sport));
      assert.ok(kernel && ours.length >= 2, "a SYN of each kind");
      for (const { bytes } of ours) assert.is(comparable(bytes), comparable(kernel.bytes));
    }
  });
}

alike.run();

const narrow = suite("materialized sockets: a path of 1400 bytes");

narrow("given an MTU of 1400, then both ends show what an ordinary connection shows", async () => {
  await using world = await World.create({ links: [{ between: ["near", "far"], rttMs: 20, mtu: 1400 }] });
  await serve(world, "far", [{ port: PORT }]);
  const client = await LineClient.on(world, "near");
  const proxy = await start(world);
  for (const family of FAMILIES) {
    const { mss, pmtu } = await assertAlike(world, client, proxy, family);
    assert.equal([mss, pmtu], [family === 4 ? "1348" : "1328", "1400"]);
  }
  for (const last of running.splice(0)) await last.stop();
});

narrow.run();
