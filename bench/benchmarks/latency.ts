/**
 * What a fresh connection costs on the way to a far server: first and last byte from the moment a request was
 * due, through each proxy and through none. Every arrival goes to the next variant, so that neighbours in time
 * make a pair.
 */
import type { BenchContext, Benchmark } from "../context.ts";
import type { Host } from "../lab/lab.ts";
import type { Phase } from "../load/arrivals.ts";
import type { LoadResult, NamedTarget, Sample } from "../load/generator.ts";
import { runLoadOn, startOrigin } from "../load/processes.ts";
import { type Row, rowsOf } from "../measure/compare.ts";
import { accelproxy } from "../peers/accelproxy.ts";
import { haproxyNever, haproxyReuse } from "../peers/haproxy.ts";
import { nginxHttp, nginxStream } from "../peers/nginx.ts";
import type { PoolCounts, RunningPeer } from "../peers/peer.ts";

const ACCELPROXY = "accelproxy";
const DIRECT = "direct";
const FAST_OPEN = "direct, TCP Fast Open";
const PEERS = [
  accelproxy({ name: ACCELPROXY, acceleration: "required", pool: { max: 128, maxSynRate: 1_000 } }),
  haproxyNever,
  haproxyReuse,
  nginxStream,
  nginxHttp,
];

const ORIGIN_PORT = 8080;
const FIRST_PORT = 9001;
const TIMEOUT_MS = 10_000;
const SEED = 1;
/** Arrivals a second for each variant. */
const STEADY_RATE = 20;
const CALM_RATE = 10;
const BURST_FACTOR = 10;
const PAUSE_MS = 90_000;
/** How long after a pause requests still count: what a visitor who comes back meets. */
const AFTER_PAUSE_MS = 1_000;

type Pattern = "steady" | "burst" | "after a pause of 90 s";

interface LatencyCase {
  readonly rttMs: number;
  readonly sizeBytes: number;
  readonly loss: number;
  readonly pattern: Pattern;
}

/** Least share of sessions that took a half-open, by pattern: below it a row is not what it says. */
const HIT_RATE_MIN: Readonly<Record<Pattern, number>> = {
  steady: 0.95,
  burst: 0.5,
  "after a pause of 90 s": 0.5,
};

const RTTS_MS = [1, 10, 40, 100, 200];
const SIZES = [1_000, 100_000];

export function latencyCases(quick: boolean): LatencyCase[] {
  const plain = { sizeBytes: 1_000, loss: 0, pattern: "steady" } as const;
  if (quick) {
    return [
      ...RTTS_MS.map((rttMs) => ({ rttMs, ...plain })),
      { ...plain, rttMs: 40, sizeBytes: 100_000 },
      { ...plain, rttMs: 40, pattern: "burst" },
      { ...plain, rttMs: 40, loss: 0.01 },
    ];
  }
  const all = RTTS_MS.flatMap((rttMs) =>
    [0, 0.01].flatMap((loss) =>
      SIZES.flatMap((sizeBytes) =>
        (["steady", "burst"] as const).map((pattern) => ({ rttMs, sizeBytes, loss, pattern })),
      ),
    ),
  );
  return [...all, { ...plain, rttMs: 40, pattern: "after a pause of 90 s" }];
}

export const latency: Benchmark = {
  name: "latency",
  async run(context) {
    const cases = latencyCases(context.quick);
    const rows: Row[] = [];
    for (const rttMs of new Set(cases.map((one) => one.rttMs))) {
      rows.push(
        ...(await atDistance(
          context,
          rttMs,
          cases.filter((one) => one.rttMs === rttMs),
        )),
      );
    }
    if (context.quick) context.skip("requests after pauses of 90 s", "not with --quick");
    return rows;
  },
};

/** All cases of one round-trip time, in a lab of their own: kernels remember paths (tcp_metrics). */
async function atDistance(context: BenchContext, rttMs: number, cases: LatencyCase[]): Promise<Row[]> {
  const lab = await context.lab({ links: [{ between: ["near", "far"], rttMs }] });
  const [near, far] = [lab.host("near"), lab.host("far")];
  // Fast Open for those who ask: a client bit here; there the server's, for every listener (0x400).
  near.sysctl({ "net.ipv4.tcp_fastopen": 1 });
  far.sysctl({ "net.ipv4.tcp_fastopen": 0x403 });
  await startOrigin(far, ORIGIN_PORT);
  const origin = { host: far.address(), port: ORIGIN_PORT };
  const peers: RunningPeer[] = [];
  for (const [index, peer] of context.available(PEERS).entries()) {
    const { folder } = context;
    peers.push(await peer.start({ host: near, folder, port: FIRST_PORT + index, origin, workers: 1 }));
  }
  const targets: NamedTarget[] = [
    { name: DIRECT, ...origin },
    ...peers.map(({ name, port }) => ({ name, host: "127.0.0.1", port })),
    { name: FAST_OPEN, ...origin, fastOpen: true },
  ];
  const accelerated = peers.find(({ name }) => name === ACCELPROXY)!;
  await assertWorking(near, targets, accelerated);
  const rows: Row[] = [];
  for (const one of cases) {
    const name = describeCase(one);
    context.say(`latency: ${name}`);
    await lab.link().set({ loss: one.loss, seed: SEED });
    rows.push(...(await measure(context, near, targets, accelerated, one, name)));
    await lab.link().set({ loss: 0 });
  }
  await context.closeLab(lab);
  return rows;
}

/** Sends requests every way until code is compiled and pools know their upstream; every answer must be right. */
async function assertWorking(near: Host, targets: NamedTarget[], peer: RunningPeer): Promise<void> {
  const before = await counts(peer);
  const load = { targets, rate: 20 * targets.length, durationMs: 2_000, seed: SEED };
  const { samples } = await runLoadOn(near, { ...load, size: 1_000, timeoutMs: TIMEOUT_MS });
  for (const { name } of targets) {
    const [error] = (samples[name] ?? []).flatMap((sample) => sample.error ?? []);
    if (error !== undefined) throw new Error(`latency: ${name} does not work: ${error}`);
  }
  const { hits } = difference(before, await counts(peer));
  if (hits === 0) throw new Error("latency: no session through accelproxy was accelerated");
}

async function measure(
  context: BenchContext,
  near: Host,
  targets: NamedTarget[],
  peer: RunningPeer,
  one: LatencyCase,
  name: string,
): Promise<Row[]> {
  const phases = phasesOf(one, context.quick).map(({ rate, durationMs }) => ({
    rate: rate * targets.length,
    durationMs,
  }));
  const [{ rate, durationMs } = { rate: 0, durationMs: 0 }, ...later] = phases;
  const load = { targets, rate, durationMs, later, seed: SEED + one.rttMs };
  const before = await counts(peer);
  const result = await runLoadOn(near, { ...load, size: one.sizeBytes, timeoutMs: TIMEOUT_MS });
  const pool = difference(before, await counts(peer));
  const hitRate = pool.hits / (pool.hits + pool.misses);
  if (!(hitRate >= HIT_RATE_MIN[one.pattern])) {
    throw new Error(`latency: ${name}: only ${(100 * hitRate).toFixed(1)} % of sessions were accelerated`);
  }
  const counted = countedSamples(result, one.pattern, phases);
  const parameters = { ...one };
  const times = (metric: string, pick: (sample: Sample) => number | null): Row[] =>
    rowsOf({
      case: name,
      parameters,
      metric,
      unit: "ms",
      baseline: DIRECT,
      samples: mapValues(counted, (samples) => samples.map((s) => (s.error === null ? pick(s) : null))),
    });
  const errors = mapValues(counted, (samples) => [samples.filter(({ error }) => error !== null).length]);
  return [
    ...times("first byte", ({ firstByteMs }) => firstByteMs),
    ...times("last byte", ({ lastByteMs }) => lastByteMs),
    ...rowsOf({ case: name, parameters, metric: "errors", unit: "count", baseline: null, samples: errors }),
    ...rowsOf({
      case: name,
      parameters,
      metric: "hit rate",
      unit: "%",
      baseline: null,
      samples: { [ACCELPROXY]: [100 * hitRate] },
    }),
  ];
}

/** Rates of one variant. */
function phasesOf({ pattern, rttMs }: LatencyCase, quick: boolean): Phase[] {
  // What the machine itself adds weighs most where the distance is short.
  const steadyMs = (quick ? 5_000 : 10_000) * (rttMs <= 1 ? 4 : 1);
  if (pattern === "steady") return [{ rate: STEADY_RATE, durationMs: steadyMs }];
  if (pattern === "burst") {
    const pair = [
      { rate: CALM_RATE, durationMs: 3_000 },
      { rate: BURST_FACTOR * CALM_RATE, durationMs: 500 },
    ];
    return [...pair, ...pair, ...(quick ? [] : pair)];
  }
  const on = { rate: STEADY_RATE, durationMs: 3_000 };
  const off = { rate: 0, durationMs: PAUSE_MS };
  return [on, off, on, off, on];
}

/** The samples a pattern is about: all, those of the bursts, or those just after a pause. */
function countedSamples(
  { samples }: LoadResult,
  pattern: Pattern,
  phases: readonly Phase[],
): Record<string, readonly Sample[]> {
  if (pattern === "steady") return { ...samples };
  let beginMs = 0;
  const windows = phases.flatMap(({ rate, durationMs }, index) => {
    const from = beginMs;
    beginMs += durationMs;
    if (pattern === "burst") return index % 2 === 1 ? [[from, beginMs] as const] : [];
    return index > 0 && rate > 0 ? [[from, from + AFTER_PAUSE_MS] as const] : [];
  });
  const isCounted = ({ atMs }: Sample): boolean => windows.some(([from, to]) => atMs >= from && atMs < to);
  return mapValues(samples, (all) => all.filter(isCounted));
}

function describeCase({ rttMs, sizeBytes, loss, pattern }: LatencyCase): string {
  const parts = [`RTT ${rttMs} ms`, `${sizeBytes / 1_000} kB`, pattern];
  if (loss > 0) parts.push(`${100 * loss} % loss`);
  return parts.join(", ");
}

async function counts(peer: RunningPeer): Promise<PoolCounts> {
  if (peer.counts === undefined) throw new Error(`${peer.name} does not count`);
  return peer.counts();
}

function difference(before: PoolCounts, after: PoolCounts): PoolCounts {
  return {
    hits: after.hits - before.hits,
    misses: after.misses - before.misses,
    replays: after.replays - before.replays,
  };
}

function mapValues<T, U>(record: Readonly<Record<string, T>>, map: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));
}
