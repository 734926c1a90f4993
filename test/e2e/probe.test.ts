// alone
// Goal: `accelproxy probe` says what acceleration would save towards an upstream, what stands in its way, and what
// to configure; it keeps to 10 SYNs a second, ends by itself, and leaves no half-open behind, also after Ctrl-C.
// Method: the built program on a host of the lab, servers 40 ms away: ordinary, with SYN cookies, with a short
// memory, behind middleboxes, not HTTP, refusing, absent, next door. What the network saw comes from a capture, what the
// server holds from its own kernel. Tests that measure run alone, the others at once.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Host, readPcap } from "../../bench/lab/lab.ts";
import { SYN } from "../../native/wire/tcp.ts";
import type { ProbeReport } from "../../proxy/probe/report.ts";
import { World } from "./world.ts";

const RTT_MS = 40;
const PORT = {
  http: 8080,
  slow: 8081,
  strict: 8082,
  harsh: 8085,
  twoFaced: 8083,
  held: 8084,
  echo: 7000,
  greet: 7001,
} as const;
const HTTP_PORTS = [PORT.http, PORT.slow, PORT.strict, PORT.harsh, PORT.twoFaced, PORT.held];
const EXTRA_MS = 100;
/** Processes on busy processors. */
const ROOM_MS = 12;
const program = new URL("../../dist/proxy/cli.js", import.meta.url).pathname;

const SERVERS = `
  const { createServer } = require("node:http");
  const net = require("node:net");
  const calm = (socket) => socket.on("error", () => {});
  const servers = [
    ...${JSON.stringify(HTTP_PORTS)}.map((port) => [createServer((_, response) => response.end("x")), port]),
    [net.createServer((socket) => calm(socket).pipe(socket)), ${PORT.echo}],
    [net.createServer((socket) => calm(socket).end("220 ready\\r\\n")), ${PORT.greet}],
  ];
  let left = servers.length;
  for (const [server, port] of servers) server.listen(port, "::", () => --left || console.log("up"));
`;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly tookMs: number;
}

type Others = Readonly<
  Record<
    | "cookies"
    | "forgetful"
    | "slow"
    | "strict"
    | "harsh"
    | "twoFaced"
    | "echo"
    | "greet"
    | "refused"
    | "absent",
    Promise<Ended>
  >
>;

interface Context {
  world: World;
  others: Others | undefined;
}

function start(host: Host, args: readonly string[]): ChildProcess {
  return host.spawn(process.execPath, [program, "probe", ...args], { stdio: ["ignore", "pipe", "pipe"] });
}

async function endOf(child: ChildProcess): Promise<Ended> {
  const startedMs = performance.now();
  const [stdout, stderr] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, "close"),
  ]);
  return { code: child.exitCode, stdout, stderr, tookMs: performance.now() - startedMs };
}

/** The report of a probe that ended well and wrote nothing else. */
function reportOf({ code, stdout, stderr }: Ended): ProbeReport {
  assert.is(stderr, "");
  assert.is(code, 0);
  return JSON.parse(stdout) as ProbeReport;
}

async function serve(host: Host): Promise<void> {
  const child = host.spawn(process.execPath, ["-e", SERVERS], { stdio: ["ignore", "pipe", "inherit"] });
  await once(child.stdout!, "data");
}

/** Half-opens that a host's kernel holds on a port. */
async function halfOpensOn(host: Host, port: number): Promise<number> {
  const { stdout } = await host.run("cat", ["/proc/net/tcp", "/proc/net/tcp6"]);
  const SYN_RECV = "03";
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return stdout.split("\n").filter((line) => {
    const [, address = "", , state] = line.trim().split(/\s+/);
    return address.endsWith(local) && state === SYN_RECV;
  }).length;
}

/** 32 at 40 ms; more as soon as a busy machine makes the round trip look longer than 43. */
function assertPool({ pool, reason }: ProbeReport["recommendation"]): void {
  assert.ok(pool?.min === 2 && pool.max >= 32 && pool.max <= 48, `${JSON.stringify(pool)}: ${reason}`);
}

async function sleep(delayMs: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, delayMs));
}

/** Starts everything whose time does not matter, once. */
async function others(context: Context): Promise<Others> {
  if (context.others !== undefined) return context.others;
  const { world } = context;
  const at = (host: string, port: number) => `${world.lab.host(host).address()}:${port}`;
  const far = (port: number) => at("far", port);
  await world.lab.link("near", "far").setFilter({
    rules: [{ name: "slow", action: { delayMs: EXTRA_MS }, from: "near", dport: PORT.slow, payload: "some" }],
    module: new URL("./probe-filters.ts", import.meta.url),
    export: "middleboxes",
    options: { strictPort: PORT.strict, harshPort: PORT.harsh, twoFacedPort: PORT.twoFaced },
  });
  const probe = (...args: string[]) => endOf(start(world.near, [...args, "--json"]));
  context.others = {
    cookies: probe(at("cookies", PORT.http), "--count", "10"),
    forgetful: probe(at("forgetful", PORT.http), "--count", "2", "--lifetime"),
    slow: probe(far(PORT.slow), "--count", "5"),
    strict: probe(far(PORT.strict), "--count", "3"),
    harsh: probe(far(PORT.harsh), "--count", "5"),
    twoFaced: probe(far(PORT.twoFaced), "--count", "3"),
    echo: probe(far(PORT.echo), "--count", "3"),
    greet: probe(far(PORT.greet), "--count", "3"),
    refused: probe(far(81)),
    absent: probe("10.77.0.99:8080"),
  };
  return context.others;
}

const probes = suite<Context>("probe");
probes.before(async (context) => {
  context.others = undefined;
  context.world = await World.create({
    hosts: ["near", "far", "cookies", "forgetful"],
    links: ["far", "cookies", "forgetful"].map((host) => ({ between: ["near", host], rttMs: RTT_MS })),
  });
  const { lab } = context.world;
  lab.host("cookies").sysctl({ "net.ipv4.tcp_syncookies": 2 });
  lab.host("forgetful").sysctl({ "net.ipv4.tcp_synack_retries": 1 });
  await Promise.all(["far", "cookies", "forgetful"].map((host) => serve(lab.host(host))));
});
probes.after(async ({ world }) => {
  await world?.close(); // a failed before() comes here as well
});

probes(
  "given an HTTP server, then one round trip is saved, politely, and a pool recommended",
  async ({ world }) => {
    const { near, far } = world;
    const file = join(world.folder, "near.pcap");
    await world.lab.link("near", "far").record({ near: file });
    let report: ProbeReport | undefined;
    for (let turn = 0; turn < 2; turn++) {
      report = reportOf(
        await endOf(start(near, [`${far.address()}:${PORT.http}`, "--count", "10", "--json"])),
      );
      if (Math.abs((report.saving?.ms ?? 0) - RTT_MS) <= ROOM_MS) break;
    }
    await sleep(2 * RTT_MS); // the last RSTs are on their way
    assert.is(await halfOpensOn(far, PORT.http), 0);
    await world.lab.link("near", "far").stopRecording();

    const { direct, accelerated, saving, rttMs, halfOpen, recommendation } = report!;
    console.log(`  direct ${direct.p50} ms, accelerated ${accelerated.p50} ms, ${saving!.percent} % saved`);
    assert.equal([report!.protocol, report!.timed, report!.status], ["http", "first-byte", 200]);
    assert.equal([direct.n, accelerated.n, direct.failed, accelerated.failed], [10, 10, {}, {}]);
    assert.ok(Math.abs(rttMs! - RTT_MS) < ROOM_MS, `${rttMs} ms`);
    assert.ok(direct.p50! >= 2 * RTT_MS && accelerated.p50! >= RTT_MS, "faster than the network");
    assert.ok(direct.p50! <= direct.p90! && direct.p90! <= direct.p99!);
    assert.ok(Math.abs(saving!.ms - RTT_MS) <= ROOM_MS, `${saving!.ms} ms saved`);
    assert.ok(saving!.percent > 35 && saving!.percent < 60, `${saving!.percent} % saved`);
    assert.is(halfOpen!.fate, "held");
    const [first = 0, second = 0] = halfOpen!.repeatedAtMs;
    assert.ok(Math.abs(first - 1_000) < 150 && Math.abs(second - 3_000) < 300, `${halfOpen!.repeatedAtMs}`);
    assert.equal([report!.cookies, report!.middlebox], [false, []]);
    assertPool(recommendation);

    const syns = readPcap(file).filter(({ tcp }) => tcp?.dport === PORT.http && tcp.flags === SYN);
    const most = Math.max(
      ...syns.map(
        ({ timeMs }) => syns.filter((syn) => syn.timeMs >= timeMs && syn.timeMs < timeMs + 1_000).length,
      ),
    );
    console.log(`  ${syns.length} SYNs, at most ${most} in a second`);
    assert.ok(most >= 3 && most <= 10, `${most} SYNs in a second`);
  },
);

probes("given a server next door, found by name, then there is too little to gain", async ({ world }) => {
  await serve(world.near);
  let report: ProbeReport | undefined;
  for (let turn = 0; turn < 2 && report?.recommendation.accelerate !== false; turn++) {
    const probe = start(world.near, [`localhost:${PORT.http}`, "--count", "5", "--json"]);
    report = reportOf(await endOf(probe));
  }
  const { target, address, recommendation } = report!;
  console.log(`  ${report!.saving!.ms.toFixed(2)} ms saved at a round trip of ${report!.rttMs} ms`);
  assert.is(target, `localhost:${PORT.http}`);
  assert.match(address, /^(127\.0\.0\.1|\[::1\]):8080$/);
  assert.is(recommendation.accelerate, false);
  assert.match(recommendation.reason, /too little to gain/);
});

probes("given SYN cookies, then they are seen and few half-opens recommended", async (context) => {
  const report = reportOf(await (await others(context)).cookies);
  assert.is(report.cookies, true);
  assert.is(report.halfOpen!.fate, "cookies");
  assert.equal(report.halfOpen!.repeatedAtMs, []);
  assert.equal(report.accelerated.failed, {});
  assert.equal(report.recommendation.pool, { min: 1, max: 8 });
});

probes(
  "given a server that repeats its SYN-ACK once, then --lifetime tells when it forgets",
  async (context) => {
    const { fate, lifetimeMs, repeatedAtMs } = reportOf(await (await others(context)).forgetful).halfOpen!;
    assert.is(fate, "forgotten");
    assert.is(repeatedAtMs.length, 1);
    assert.ok(Math.abs(lifetimeMs! - 3_000) < 300, `${lifetimeMs} ms`);
  },
);

probes("given data that takes longer than SYN-ACKs, then a SYN proxy is suspected", async (context) => {
  const report = reportOf(await (await others(context)).slow);
  assert.equal(
    report.middlebox.map(({ kind }) => kind),
    ["syn-proxy"],
  );
  assert.ok(report.accelerated.p50! >= RTT_MS + EXTRA_MS, `${report.accelerated.p50} ms`);
  assert.is(report.recommendation.accelerate, true);
});

probes("given a firewall that drops the first data on half-opens, then no acceleration", async (context) => {
  const report = reportOf(await (await others(context)).strict);
  assert.equal([report.accelerated.n, report.direct.failed], [3, {}]);
  assert.equal(
    report.middlebox.map(({ kind }) => kind),
    ["half-opens-lost"],
  );
  assert.is(report.recommendation.accelerate, false);
  assert.match(
    report.recommendation.reason,
    /first data of 3 of 3 half-open connections had to be sent again/,
  );
});

probes("given a firewall that bans half-opens with data, then no acceleration", async (context) => {
  const report = reportOf(await (await others(context)).harsh);
  assert.equal(report.direct.failed, {});
  assert.equal([report.accelerated.n, report.accelerated.failed], [0, { vanished: 3 }]);
  assert.is(report.recommendation.accelerate, false);
  assert.match(report.recommendation.reason, /3 of 3 half-open connections came to nothing \(vanished\)/);
  assert.is(report.saving, null);
});

probes("given SYN-ACKs of two kinds, then both differences are told", async (context) => {
  const report = reportOf(await (await others(context)).twoFaced);
  assert.equal(
    report.middlebox.map(({ kind }) => kind),
    ["ttl", "options"],
  );
  assert.match(report.middlebox[0]!.detail, /time to live 61 and 64/);
  assert.match(report.middlebox[1]!.detail, /MSS 1400.*MSS 1460/);
});

for (const [name, protocol] of [
  ["echo", "other"],
  ["greet", "greets"],
] as const) {
  probes(`given a server that is not HTTP (${name}), then only the handshake is timed`, async (context) => {
    const report = reportOf(await (await others(context))[name]);
    assert.equal([report.protocol, report.timed, report.status], [protocol, "handshake", null]);
    assert.equal([report.direct.n, report.accelerated.n, report.accelerated.failed], [3, 3, {}]);
    assert.ok(
      report.direct.p50! >= RTT_MS && report.accelerated.p50! < RTT_MS / 2,
      `${report.accelerated.p50}`,
    );
    assertPool(report.recommendation);
  });
}

for (const [name, problem, limitMs] of [
  ["refused", /^accelproxy: 10\.77\.0\.2:81 refuses connections \(.+\)\n$/, 5_000],
  ["absent", /^accelproxy: 10\.77\.0\.99:8080 gives no connection within 5 s \(.+\)\n$/, 10_000],
] as const) {
  probes(`given a server that is ${name}, then it says so in bounded time, exit 1`, async (context) => {
    const { code, stdout, stderr, tookMs } = await (await others(context))[name];
    assert.match(stderr, problem);
    assert.equal([code, stdout], [1, ""]);
    assert.ok(tookMs < limitMs, `${tookMs} ms`);
  });
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  probes(
    `given ${signal} in the middle, then every half-open is released at once, exit 1`,
    async ({ world }) => {
      const { near, far } = world;
      const child = start(near, [`${far.address()}:${PORT.held}`, "--lifetime"]);
      const ended = endOf(child);
      const deadlineMs = performance.now() + 10_000;
      while ((await halfOpensOn(far, PORT.held)) < 2) {
        assert.ok(performance.now() < deadlineMs, "no half-open came");
        await sleep(50);
      }
      const stoppedMs = performance.now();
      child.kill(signal);
      const { code, stdout, stderr } = await ended;
      assert.ok(performance.now() - stoppedMs < 1_000, "not at once");
      assert.equal([code, stdout], [1, ""]);
      assert.match(stderr, /^accelproxy: interrupted: .*\(.+\)\n$/);
      await sleep(2 * RTT_MS);
      assert.is(await halfOpensOn(far, PORT.held), 0);
    },
  );
}
probes.run();
