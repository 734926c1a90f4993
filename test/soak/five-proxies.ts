// Goal: five proxies with default pools in front of one upstream with a backlog of 128 and syncookies=0 harm nobody:
// its ordinary clients always connect, and few of their SYNs have to be repeated.
// Method: the built program five times in the lab, each with bursts that make its pool want all of its 32; ordinary
// clients on a host of their own, so that the upstream knows nothing of them that would spare their SYNs, one every
// 50 ms. What the proxies hold is read from the upstream's kernel.
import * as assert from "uvu/assert";
import { LineClient, type Outcome, serve, sleep } from "../e2e/lines.ts";
import { World } from "../e2e/world.ts";

const PROXIES = 5;
const BACKLOG = 128;
const PORT = 8128;
const RTT_MS = 20;
const BURST = 20;
const BURST_EVERY_MS = 500;
const LOAD_MS = 30_000;
const CLIENT_EVERY_MS = 50;
/** A SYN that was dropped is sent again after 1 s; until the proxies know how little room there is, some are. */
const REPEATED_MS = 900;
const REPEATED_SHARE_MAX = 0.1;

await using world = await World.create({
  hosts: ["near", "far", "side"],
  links: [
    { between: ["near", "far"], rttMs: RTT_MS },
    { between: ["side", "far"], rttMs: RTT_MS },
  ],
});
world.far.sysctl({ "net.ipv4.tcp_syncookies": 0, "net.ipv4.tcp_max_syn_backlog": BACKLOG });
await serve(world, "far", [{ port: PORT, backlog: BACKLOG }]);
const proxies = await Promise.all(
  Array.from({ length: PROXIES }, () =>
    world.proxy(`
listeners: [{ name: l, bind: "127.0.0.1:0", upstream: o }]
upstreams: { o: { servers: [{ address: "${world.far.address()}:${PORT}" }] } }
workers: 1
drainTimeout: 1s`),
  ),
);
for (const proxy of proxies) await proxy.ready();
const [through, ordinary] = [await LineClient.on(world, "near"), await LineClient.on(world, "side")];

const startedAt = performance.now();
const isOver = (): boolean => performance.now() - startedAt > LOAD_MS;
const failed: string[] = [];
let accelerated = 0;

async function bursts(port: number): Promise<void> {
  while (!isOver()) {
    const burst = Array.from({ length: BURST }, () => through.request("127.0.0.1", port));
    const [outcomes] = await Promise.all([Promise.all(burst), sleep(BURST_EVERY_MS)]);
    for (const { error } of outcomes) if (error !== undefined) failed.push(`through a proxy: ${error}`);
    accelerated += outcomes.length;
  }
}

async function clients(): Promise<readonly Outcome[]> {
  const address = "10.77.1.2";
  const outcomes: Promise<Outcome>[] = [];
  while (!isOver()) {
    outcomes.push(ordinary.request(address, PORT));
    await sleep(CLIENT_EVERY_MS);
  }
  return Promise.all(outcomes);
}

async function held(): Promise<readonly number[]> {
  const counts: number[] = [];
  while (!isOver()) {
    const { stdout } = await world.far.run("ss", ["-tanH", "state", "syn-recv", `( sport = :${PORT} )`]);
    counts.push(stdout.split("\n").filter((line) => line !== "").length);
    await sleep(1_000);
  }
  return counts;
}

const [outcomes, counts] = await Promise.all([
  clients(),
  held(),
  ...proxies.map((proxy) => bursts(proxy.port("l"))),
]);
const errors = outcomes.flatMap(({ error }) => error ?? []);
const repeated = outcomes.filter(({ firstByteMs }) => firstByteMs > REPEATED_MS);
const pools = await Promise.all(proxies.map(async (proxy) => (await proxy.status()).pools[0]!));
console.log(
  `${outcomes.length} ordinary clients: ${errors.length} failed, ${repeated.length} had to repeat a SYN, longest ` +
    `${Math.max(...outcomes.map(({ firstByteMs }) => firstByteMs)).toFixed(1)} ms`,
);
console.log(
  `${accelerated} requests through ${PROXIES} proxies: ${failed.length} failed, hits ` +
    `${pools.map(({ hits, misses }) => `${hits} of ${hits + misses}`).join(", ")}`,
);
console.log(`half-opens at the upstream, second by second: ${counts.join(" ")}`);
console.log(`targets ${pools.map(({ target }) => target).join(" ")}`);
assert.equal(failed, []);
assert.equal(errors, []);
assert.ok(repeated.length < REPEATED_SHARE_MAX * outcomes.length, `${repeated.length} SYNs repeated`);
for (const proxy of proxies) await proxy.stop();
