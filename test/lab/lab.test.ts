// alone
// Goal: the network behaves as asked: delays, addresses, faults, filters, captures.
// Method: real kernels at both ends. Round trips are measured by ICMP echo; one-way delays by captures.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Host, Lab, LabError, type Link, readPcap } from "../../bench/lab/lab.ts";
import { parseAddress } from "../../native/address.ts";
import { IcmpEcho } from "../../native/net/icmp-echo.ts";
import { ACK, SYN } from "../../native/wire/tcp.ts";

const SERVER = `
  const body = Buffer.alloc(100_000, "x");
  require("node:http").createServer((_, response) => response.end(body))
    .listen(8080, "::", () => console.log("up"));
`;
// One request over a connection of its own; prints when the connection, the first and the last byte came.
const CLIENT = `
  const start = performance.now();
  const since = () => performance.now() - start;
  const times = { bytes: 0 };
  require("node:http").get({ host: process.argv[1], port: 8080, agent: false }, (response) => {
    response.once("data", () => (times.firstMs = since()));
    response.on("data", (chunk) => (times.bytes += chunk.length));
    response.on("end", () => console.log(JSON.stringify({ ...times, lastMs: since() })));
  }).on("socket", (socket) => socket.once("connect", () => (times.connectMs = since())));
`;
// A UDP packet a millisecond.
const PACER = `
  const [address, count] = process.argv.slice(1);
  const socket = require("node:dgram").createSocket("udp4");
  const start = performance.now();
  let sent = 0;
  const send = () => {
    while (sent < Number(count) && sent <= performance.now() - start) socket.send(Buffer.alloc(500), 9, address), sent++;
    if (sent < Number(count)) setImmediate(send); else setTimeout(() => socket.close(), 20);
  };
  socket.bind(send);
`;

interface Fetched {
  readonly bytes: number;
  readonly connectMs: number;
  readonly firstMs: number;
  readonly lastMs: number;
}

interface Context {
  lab: Lab;
  near: Host;
  far: Host;
  link: Link;
  directory: string;
  server: ChildProcess;
}

async function fetchFrom(host: Host, address: string): Promise<Fetched> {
  const { stdout, stderr, code } = await host.run(process.execPath, ["-e", CLIENT, address], {
    timeoutMs: 10_000,
  });
  assert.is(code, 0, stderr);
  return JSON.parse(stdout);
}

/** Round trips in ms; undefined for those without an answer. */
function ping(host: Host, address: string, count: number, timeoutMs = 1000): (number | undefined)[] {
  using echo = host.enter(() => new IcmpEcho(parseAddress(address)!));
  return Array.from({ length: count }, () => echo.measureMs(timeoutMs));
}

/** The least of them in ms: what the link adds. How much a busy machine adds to it shows in the others. */
function quickest(values: readonly (number | undefined)[]): number {
  return Math.min(...values.map((value) => value ?? Number.POSITIVE_INFINITY));
}

function isNear(value: number, least: number, most: number): void {
  assert.ok(value >= least && value <= most, `${value} is not in ${least}..${most}`);
}

const lab = suite<Context>("lab");
lab.before(async (context) => {
  context.directory = mkdtempSync(join(tmpdir(), "lab-"));
  context.lab = await Lab.create();
  context.near = context.lab.host("near");
  context.far = context.lab.host("far");
  context.link = context.lab.link("far", "near");
  context.server = context.far.spawn(process.execPath, ["-e", SERVER], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(context.server.stdout!, "data");
});
lab.before.each(async ({ link }) => {
  await link.clearFilter();
  await link.set({
    rttMs: 0,
    jitterMs: 0,
    loss: 0,
    reorder: 0,
    duplicate: 0,
    rateBytesPerSecond: 0,
    up: true,
    seed: 1,
  });
});
lab.after(async ({ lab, directory }) => {
  await lab.close();
  rmSync(directory, { recursive: true });
});

lab("given a quiet network, then no packet is sent unasked", async ({ link }) => {
  const { from } = await link.counters();
  assert.is(from.near?.packets, 0);
  assert.is(from.far?.packets, 0);
});

for (const [rttMs, count] of [
  [10, 40],
  [40, 20],
  [200, 7],
] as const) {
  for (const family of [4, 6] as const) {
    lab(
      `given an RTT of ${rttMs} ms, then IPv${family} echoes take that long`,
      async ({ link, near, far }) => {
        await link.set({ rttMs });
        isNear(quickest(ping(near, far.address(family), count)), rttMs, rttMs + 1);
        isNear(quickest(ping(far, near.address(family), 3)), rttMs, rttMs + 1);
      },
    );
  }
}

lab(
  "given 1,000 packets a second, then nine in ten are delayed to within 0.3 ms, and none too little",
  async ({ link, near, far, directory }) => {
    await link.set({ rttMs: 40 });
    const paths = { near: join(directory, "near.pcap"), far: join(directory, "far.pcap") };
    await link.record(paths);
    const { code, stderr } = await near.run(process.execPath, ["-e", PACER, far.address(), "2000"]);
    assert.is(code, 0, stderr);
    await link.stopRecording();
    const toDiscard = (path: string) =>
      readPcap(path).filter(({ bytes }) => bytes[9] === 17 && bytes[19] === 2);
    const [entered, left] = [toDiscard(paths.near), toDiscard(paths.far)];
    assert.is(entered.length, 2000);
    assert.is(left.length, 2000);
    const errors = entered.map(({ timeNs }, index) => Number(left[index]!.timeNs - timeNs) / 1e6 - 20);
    errors.sort((a, b) => a - b);
    isNear(errors[0]!, -0.001, 0.3);
    isNear(errors[errors.length * 0.9]!, 0, 0.3);
  },
);

for (const family of [4, 6] as const) {
  lab(`given HTTP over IPv${family}, then handshake and request cost a round trip each`, async (context) => {
    const { link, near, far } = context;
    await link.set({ rttMs: 40 });
    const { bytes, connectMs, firstMs } = await fetchFrom(near, far.address(family));
    assert.is(bytes, 100_000);
    isNear(connectMs, 40, 75);
    isNear(firstMs - connectMs, 40, 75);
  });
}

lab("given loss, then TCP retransmits and all bytes arrive", async ({ link, near, far, directory }) => {
  const path = join(directory, "loss.pcap");
  await link.set({ rttMs: 10 });
  await link.set({ loss: 0.1, seed: 5 }, { from: "far" });
  const before = (await link.counters()).from;
  await link.record({ far: path });
  assert.is((await fetchFrom(near, far.address())).bytes, 100_000);
  await link.stopRecording();
  const after = (await link.counters()).from;
  assert.ok(after.far!.lost > before.far!.lost);
  assert.is(after.near!.lost, before.near!.lost);
  const sent = readPcap(path).filter(({ tcp }) => tcp?.sport === 8080 && tcp.payloadEnd > tcp.payloadStart);
  assert.ok(new Set(sent.map(({ tcp }) => tcp!.seq)).size < sent.length, "no segment was sent twice");
});

lab(
  "given a rule for the first SYN, then the handshake starts again after a second",
  async ({ link, near, far }) => {
    await link.setFilter({
      rules: [
        { name: "first SYN", action: "drop", from: "near", flags: "S", dport: 8080, limit: 1 },
        { name: "SYN-ACKs", action: "count", from: "far", flags: "SA" },
      ],
    });
    isNear((await fetchFrom(near, far.address())).connectMs, 990, 1300);
    const { rules } = await link.counters();
    assert.equal(rules, { "first SYN": { matched: 2, acted: 1 }, "SYN-ACKs": { matched: 1, acted: 0 } });
  },
);

lab("given a rule that delays, then those packets take longer", async ({ link, near, far }) => {
  await link.setFilter({ rules: [{ name: "slow", action: { delayMs: 30 }, from: "far" }] });
  isNear(quickest(ping(near, far.address(), 3)), 30, 31);
});

lab("given a filter function, then it gets its options and keeps its state", async ({ link, near, far }) => {
  const module = new URL("./filters.ts", import.meta.url);
  await link.setFilter({ module, export: "thin", options: { every: 2 } });
  // The first request is dropped, the later ones pass and their replies are dropped.
  assert.equal(ping(near, far.address(), 4, 50), [undefined, undefined, undefined, undefined]);
  assert.equal((await link.counters()).state, { seen: 7 });
  await link.setFilter({ module, export: "misdirect" });
  assert.equal(ping(near, far.address(), 1, 50), [undefined]);
  await link.clearFilter();
  assert.type(ping(near, far.address(), 1)[0], "number");
  try {
    await link.setFilter({ module, export: "absent" });
    assert.unreachable();
  } catch (error) {
    assert.ok(error instanceof LabError && error.code === "ACCEL_LAB_USAGE");
  }
});

lab(
  "given changes at run time, then they hold from the next packet, per direction",
  async ({ link, near, far }) => {
    await link.set({ delayMs: 30 }, { from: "near" });
    isNear(quickest(ping(near, far.address(), 3)), 30, 31);
    await link.set({ delayMs: 10 }, { from: "far" });
    isNear(quickest(ping(near, far.address(), 3)), 40, 41);
    await link.set({ up: false });
    assert.equal(ping(near, far.address(), 1, 60), [undefined]);
    await link.set({ up: true, rttMs: 0 });
    isNear(quickest(ping(near, far.address(), 3)), 0, 1);
  },
);

lab("given a rate, then 100 kB take that long", async ({ link, near, far }) => {
  await link.set({ rateBytesPerSecond: 500_000 }, { from: "far" });
  const { firstMs, lastMs } = await fetchFrom(near, far.address());
  isNear(lastMs - firstMs, 180, 260);
});

lab(
  "given duplicates and reordering, then bytes still arrive and both show",
  async ({ link, near, far, directory }) => {
    const path = join(directory, "reorder.pcap");
    await link.set({ rttMs: 10, duplicate: 0.2, reorder: 0.2, reorderMs: 1 }, {});
    await link.record({ near: path });
    assert.is((await fetchFrom(near, far.address())).bytes, 100_000);
    await link.stopRecording();
    const arrived = readPcap(path)
      .map(({ tcp }) => tcp)
      .filter((tcp) => tcp?.sport === 8080 && tcp.payloadEnd > tcp.payloadStart)
      .map((tcp) => tcp!.seq);
    assert.ok(new Set(arrived).size < arrived.length, "nothing arrived twice");
    assert.ok(
      arrived.some((seq, index) => index > 0 && ((seq - arrived[index - 1]!) | 0) < 0),
      "all in order",
    );
    assert.ok((await link.counters()).from.far!.duplicated > 0);
  },
);

lab(
  "given a capture, then it shows the handshake as that host sees it",
  async ({ link, near, far, directory }) => {
    const paths = { near: join(directory, "n.pcap"), far: join(directory, "f.pcap") };
    await link.set({ rttMs: 40 });
    await link.record(paths);
    await fetchFrom(near, far.address());
    await link.stopRecording();
    const flagged = (path: string, flags: number) =>
      readPcap(path).find(({ tcp }) => tcp?.flags === flags)!.timeMs;
    isNear(flagged(paths.near, SYN | ACK) - flagged(paths.near, SYN), 40, 43);
    isNear(flagged(paths.far, SYN | ACK) - flagged(paths.far, SYN), 0, 3);
    isNear(flagged(paths.far, SYN) - flagged(paths.near, SYN), 19.999, 23);
  },
);

lab("given sysctl(), then it holds on that host alone; an unknown name is refused", async ({ near, far }) => {
  near.sysctl({ "net.ipv4.tcp_syncookies": 0 });
  const read = async (host: Host) =>
    (await host.run("cat", ["/proc/sys/net/ipv4/tcp_syncookies"])).stdout.trim();
  assert.is(await read(near), "0");
  assert.is(await read(far), "1");
  assert.throws(() => near.sysctl({ "net.ipv4.no_such": 1 }), /net\.ipv4\.no_such=1 on "near": ENOENT/);
});

lab(
  "given run(), then output, input and code come through, and an unknown command rejects",
  async ({ near }) => {
    const { stdout, stderr, code } = await near.run("sh", ["-c", "cat; echo e >&2; exit 3"], { input: "in" });
    assert.equal({ stdout, stderr, code }, { stdout: "in", stderr: "e\n", code: 3 });
    assert.is((await near.run("sleep", ["9"], { timeoutMs: 50 })).signal, "SIGKILL");
    try {
      await near.run("/no/such/command");
      assert.unreachable();
    } catch (error) {
      assert.match(String(error), "ENOENT");
    }
  },
);

lab("given a chain of three hosts, then the middle one forwards", async () => {
  await using chain = await Lab.create({
    hosts: ["a", "b", "c"],
    links: [
      { between: ["a", "b"], rttMs: 10 },
      { between: ["b", "c"], rttMs: 20 },
    ],
    forward: ["b"],
  });
  const [a, c] = [chain.host("a"), chain.host("c")];
  assert.is(c.address(), "10.77.1.2");
  assert.is(chain.host("b").address(6, "c"), "fd77:0:0:1::1");
  for (const family of [4, 6] as const) isNear(quickest(ping(a, c.address(family), 5)), 30, 31.5);
  assert.throws(() => chain.link(), /2 links/);
  assert.throws(() => chain.host("d"), /no host "d"/);
});

lab("given a full queue, then the packets that come too late are dropped and counted", async () => {
  await using small = await Lab.create({
    links: [{ between: ["near", "far"], rttMs: 100, queuePackets: 10 }],
  });
  const near = small.host("near");
  await near.run(process.execPath, ["-e", PACER, small.host("far").address(), "100"]);
  const { packets, delivered, overflowed, queued } = (await small.link().counters()).from.near!;
  assert.is(packets, 100);
  assert.is(delivered + overflowed + queued, 100);
  assert.ok(overflowed >= 50);
});

lab.run();
