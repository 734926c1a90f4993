/**
 * `npm run soak -- returning-clients [SECONDS]`: what `sourceAddress: client` buys where clients come back. Visits by 200 client
 * addresses, drawn by Zipf's law (the client of rank k comes 1/k as often as the first), arrive as a Poisson process at
 * 20 a second at a gateway, whose origin is 20 ms behind it; each is a fresh connection with one request.
 *
 * - With few half-opens for each client, with the defaults, and with little room: 40 pools that are kept for 10 s.
 * - Every answer says the address that the origin saw: it is the client's.
 * - At no time more half-opens than `learned.maxHalfOpen`, nor more pools than `learned.destinations`.
 *
 * Prints the figures of docs/transparent.md: which share of the visits took a half-open, first bytes (means and medians), and
 * what was held for it. Exit 1 when the client saw another address, a bound did not hold, or half-opens were of no use.
 */
import * as assert from "uvu/assert";
import { median } from "../e2e/peer.ts";
import { PORT, RTT_MS, TransparentWorld, transparentConfig } from "../e2e/transparent-world.ts";

const CLIENTS = 200;
const PER_SECOND = 20;
const SECONDS = Number(process.argv[2] ?? 40);
const SEED = 20_260;
const LOOK_MS = 250;

interface Case {
  readonly name: string;
  readonly learned: string;
  readonly pools: number;
  readonly halfOpen: number;
  /** Of the visits by clients that had been there before, this share at least is to take a half-open. */
  readonly hitsOfReturning: number;
}

const CASES: readonly Case[] = [
  {
    name: "min 1, max 2",
    learned: ", pool: { min: 1, max: 2 }",
    pools: 256,
    halfOpen: 512,
    hitsOfReturning: 0.8,
  },
  { name: "the defaults", learned: "", pools: 256, halfOpen: 1_024, hitsOfReturning: 0.9 },
  {
    name: "40 pools, kept for 10 s",
    learned: ", learned: { destinations: 40, idleTimeout: 10s, maxHalfOpen: 200 }",
    pools: 40,
    halfOpen: 200,
    hitsOfReturning: 0.3,
  },
];

/** On the client's host: visits in time, whatever became of those before. */
const VISITING = `
  const { get } = require("node:http");
  require("node:stream/consumers").json(process.stdin).then(async ({ visits, host, port }) => {
    const done = await Promise.all(visits.map(async ({ atMs, from }) => {
      await new Promise((resolve) => setTimeout(resolve, atMs));
      const begunMs = performance.now();
      return new Promise((resolve) => {
        get({ host, port, localAddress: from, agent: false }, (response) => {
          const ms = performance.now() - begunMs;
          let text = "";
          response.on("data", (chunk) => { text += chunk; }).on("end", () => resolve({ ms, from, saw: text.split(" ")[1] }));
        }).on("error", (error) => resolve({ ms: -1, from, saw: String(error) }));
      });
    }));
    process.stdout.write(JSON.stringify(done), () => process.exit(0));
  });`;

interface Visit {
  readonly ms: number;
  readonly from: string;
  readonly saw: string;
}

await using lab = await TransparentWorld.create();
await lab.addClients();
for (const one of CASES) await run(one);

async function run({ name, learned, pools: poolsMax, halfOpen, hitsOfReturning }: Case): Promise<void> {
  const config = transparentConfig({ method: "tproxy", upstream: `, sourceAddress: client${learned}` });
  lab.intercept(config, "apply");
  const proxy = await lab.world.proxy(config, { host: "gateway" });
  const visits = trace();
  const most = { halfOpen: 0, pools: 0 };
  const looking = setInterval(async () => {
    const { pools } = await proxy.status();
    most.pools = Math.max(most.pools, pools.length);
    most.halfOpen = Math.max(
      most.halfOpen,
      pools.reduce((sum, pool) => sum + pool.halfOpen, 0),
    );
  }, LOOK_MS);
  const input = JSON.stringify({ visits, host: lab.destination(0, 4), port: PORT });
  const { stdout, code, stderr } = await lab.world.lab
    .host("client")
    .run(process.execPath, ["-e", VISITING], { input, timeoutMs: SECONDS * 1e3 + 30_000 });
  clearInterval(looking);
  assert.is(code, 0, stderr);
  const done = JSON.parse(stdout) as Visit[];
  for (const { from, saw } of done) assert.is(saw.replace("::ffff:", ""), from);
  const { saved } = await proxy.status();
  const clients = new Set(visits.map(({ from }) => from)).size;
  const [quick, slow] = [true, false].map((isQuick) =>
    done.filter(({ ms }) => ms < 1.5 * RTT_MS === isQuick).map(({ ms }) => ms),
  );
  const mean = (times: readonly number[]): number => times.reduce((sum, ms) => sum + ms, 0) / times.length;
  const all = mean(done.map(({ ms }) => ms));
  const ordinary = median(slow!);
  const returning = visits.length - clients;
  const share = (part: number, of: number): string => `${((100 * part) / of).toFixed(1)} %`;
  console.log(
    `${name}: ${visits.length} visits of ${clients} clients, ${saved.roundTrips} on half-opens: ${share(saved.roundTrips, visits.length)} of all, ${share(saved.roundTrips, returning)} of those that came back`,
  );
  console.log(
    `  first byte: ${median(quick!).toFixed(1)} ms with a half-open, ${ordinary.toFixed(1)} ms without (medians); mean of all ${all.toFixed(1)} ms`,
  );
  console.log(`  held at most: ${most.halfOpen} half-opens in ${most.pools} pools`);
  assert.ok(saved.roundTrips >= hitsOfReturning * returning, `${saved.roundTrips} of ${returning}`);
  assert.ok(most.pools <= poolsMax && most.halfOpen <= halfOpen);
  assert.is(await proxy.stop(), 0);
  lab.intercept(config, "remove");
}

/** The same each time. */
function trace(): readonly { readonly atMs: number; readonly from: string }[] {
  let state = SEED;
  const random = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const weights = Array.from({ length: CLIENTS }, (_, rank) => 1 / (rank + 1));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const draw = (): number => {
    let left = random() * total;
    return Math.max(
      0,
      weights.findIndex((weight) => {
        left -= weight;
        return left < 0;
      }),
    );
  };
  const visits: { atMs: number; from: string }[] = [];
  for (let atMs = 0; ; ) {
    atMs += (-Math.log(random()) * 1e3) / PER_SECOND;
    if (atMs >= SECONDS * 1e3) return visits;
    visits.push({ atMs, from: lab.clientAddress(draw() + 1, 4) });
  }
}
