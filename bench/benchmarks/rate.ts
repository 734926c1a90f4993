/**
 * How many fresh connections a second a proxy carries on loopback, and what one costs it: CPU time of the proxy
 * process alone, all threads, user and system apart. The load is ab (apache2-utils): one process, a connection a
 * request, no keep-alive, whose own ceiling against the origin is a row of its own ("direct"). Then the latency at a
 * rate that all of them carry.
 */
import type { BenchContext, Benchmark } from "../context.ts";
import type { Host } from "../lab/lab.ts";
import { summarize } from "../load/percentiles.ts";
import { runJsonLines, runLoadOn } from "../load/processes.ts";
import { alternate, type Row, rowsOf, samplesOf } from "../measure/compare.ts";
import { cpuBetween, readCpu } from "../measure/cpu.ts";
import { accelproxy } from "../peers/accelproxy.ts";
import { haproxyTcp } from "../peers/haproxy.ts";
import { nginxStream } from "../peers/nginx.ts";
import { nodeProxy } from "../peers/node-proxy.ts";
import { findProgram, type PoolCounts } from "../peers/peer.ts";
import { startLoopback, workers } from "./loopback.ts";

/** Every session over a half-open connection: as many as a second of load at full speed takes. */
const ACCELERATED = accelproxy({
  name: "accelproxy, accelerated",
  acceleration: "required",
  pool: { max: 2048, maxSynRate: 100_000 },
});
const PLAIN = accelproxy({ name: "accelproxy, acceleration off", acceleration: "off" });
const EPOLL = accelproxy({
  name: "accelproxy, epoll, acceleration off",
  acceleration: "off",
  driver: "epoll",
});
const PEERS = [ACCELERATED, PLAIN, EPOLL, haproxyTcp, nginxStream, nodeProxy];
const BASELINE = haproxyTcp.name;
export const DIRECT = "direct";

const CLIENTS = [1, 16, 64, 256];
/** Whose peak the latency is measured at half of. */
const LATENCY_CLIENTS = 64;
const BODY_BYTES = 100;
const HIT_RATE_MIN = 0.9;

export interface Subject {
  readonly name: string;
  readonly port: number;
  /** Undefined: no proxy. */
  readonly pid: number | undefined;
  /** Only where every session shall be accelerated. */
  readonly counts?: () => Promise<PoolCounts>;
}

interface Observation {
  readonly "connections per second": number;
  readonly "CPU, user": number;
  readonly "CPU, system": number;
  readonly "CPU, all": number;
  readonly "hit rate": number;
}

const UNITS: Readonly<Record<keyof Observation, string>> = {
  "connections per second": "1/s",
  "CPU, user": "µs a connection",
  "CPU, system": "µs a connection",
  "CPU, all": "µs a connection",
  "hit rate": "%",
};

export const rate: Benchmark = {
  name: "rate",
  async run(context) {
    if (findProgram("ab") === undefined) {
      context.skip("rate", "ab (apache2-utils) is not installed");
      return [];
    }
    const { lab, host, origin, peers } = await startLoopback(context, PEERS, [BODY_BYTES]);
    const subjects: Subject[] = [
      { name: DIRECT, port: origin.port, pid: undefined },
      ...peers.map(({ name, port, pid, counts }) => ({
        name,
        port,
        pid,
        ...(counts && name === ACCELERATED.name ? { counts } : {}),
      })),
    ];
    for (const { name, port } of subjects) await assertWorking(host, name, port);
    const rows: Row[] = [];
    for (const clients of CLIENTS) {
      context.say(`rate: ${clients} clients`);
      rows.push(...(await atConcurrency(context, host, subjects, clients)));
    }
    rows.push(...(await atFixedRate(context, host, subjects, rows)));
    await context.closeLab(lab);
    return rows;
  },
};

/** Latency at half of the rate that HAProxy reached with LATENCY_CLIENTS clients, and what each proxy adds to it. */
async function atFixedRate(
  context: BenchContext,
  host: Host,
  subjects: readonly Subject[],
  rows: readonly Row[],
): Promise<Row[]> {
  const peak = rows.find(
    ({ variant, metric, parameters }) =>
      variant === BASELINE && metric === "connections per second" && parameters.clients === LATENCY_CLIENTS,
  );
  if (peak === undefined) {
    context.skip("latency at a fixed rate", `${BASELINE} is not installed`);
    return [];
  }
  const perSecond = Math.round(peak.median / 2);
  const [rounds, seconds] = context.quick ? [3, 1] : [5, 4];
  const measured = subjects.filter(({ name }) => name !== nodeProxy.name && name !== nginxStream.name);
  context.say(`rate: latency at ${perSecond} connections a second`);
  const observed = await alternate(measured, rounds, async ({ port }, round) => {
    const args = [port, BODY_BYTES, perSecond, seconds, round + 1].map(String);
    const [result] = await runJsonLines(host, "./open-loop", args);
    const { p50, p99 } = summarize((result as { latenciesUs: number[] }).latenciesUs);
    return { "latency, p50": p50, "latency, p99": p99, "added latency, p99": p99 };
  });
  const common = {
    case: `${perSecond} connections/s on loopback`,
    parameters: { perSecond, workers },
    unit: "µs",
  };
  return (["added latency, p99", "latency, p99", "latency, p50"] as const).flatMap((metric) => {
    const all = samplesOf(observed, metric);
    const direct = all[DIRECT] ?? [];
    const added = (values: readonly number[]): number[] =>
      values.map((value, round) => value - direct[round]!);
    const samples = metric.startsWith("added")
      ? Object.fromEntries(
          Object.entries(all).flatMap(([name, values]) => (name === DIRECT ? [] : [[name, added(values)]])),
        )
      : all;
    return rowsOf({ ...common, metric, baseline: BASELINE, samples });
  });
}

/** Rate and CPU with so many clients at a time, compared with `reference`. */
export async function atConcurrency(
  context: BenchContext,
  host: Host,
  subjects: readonly Subject[],
  clients: number,
  reference = BASELINE,
): Promise<Row[]> {
  const [rounds, connections] = context.quick ? [3, 2_000] : [5, 12_000];
  const count = clients === 1 ? connections / 4 : connections;
  const name = `${clients} ${clients === 1 ? "client" : "clients"} on loopback`;
  // The first thousand connections of a process are not like the others.
  for (const { port } of subjects) await runAb(host, port, clients, Math.min(count, 2_000));
  const observed = await alternate(subjects, rounds, (subject) => observe(host, subject, clients, count));
  return (Object.keys(UNITS) as (keyof Observation)[]).flatMap((metric) => {
    const all = samplesOf(observed, metric);
    const samples = Object.fromEntries(
      Object.entries(all).filter(([, values]) => values.every((value) => !Number.isNaN(value))),
    );
    const baseline = metric === "hit rate" ? null : reference;
    const parameters = { clients, workers };
    return rowsOf({ case: name, parameters, metric, unit: UNITS[metric], baseline, samples });
  });
}

/**
 * One round. Where fewer sessions were accelerated than the row's name says, it is taken once more (a pool that was
 * small and a thread that had to wait for a processor), then it fails.
 */
async function observe(
  host: Host,
  subject: Subject,
  clients: number,
  count: number,
  triesLeft = 1,
): Promise<Observation> {
  const { name, port, pid, counts } = subject;
  const countsBefore = await counts?.();
  const before = pid === undefined ? undefined : readCpu(pid);
  const perSecond = await runAb(host, port, clients, count);
  const cpu =
    pid === undefined || before === undefined
      ? { userUs: Number.NaN, systemUs: Number.NaN }
      : cpuBetween(before, readCpu(pid));
  const hitRate = counts && countsBefore ? hitRateBetween(countsBefore, await counts()) : Number.NaN;
  if (hitRate < HIT_RATE_MIN) {
    if (triesLeft > 0) return observe(host, subject, clients, count, triesLeft - 1);
    throw new Error(`rate: ${name}: only ${(100 * hitRate).toFixed(1)} % of sessions were accelerated`);
  }
  return {
    "connections per second": perSecond,
    "CPU, user": cpu.userUs / count,
    "CPU, system": cpu.systemUs / count,
    "CPU, all": (cpu.userUs + cpu.systemUs) / count,
    "hit rate": 100 * hitRate,
  };
}

function hitRateBetween(before: PoolCounts, after: PoolCounts): number {
  const hits = after.hits - before.hits;
  return hits / (hits + after.misses - before.misses);
}

/** Every byte of some answers, before anything is timed; ab itself looks at status and length only. */
export async function assertWorking(host: Host, name: string, port: number): Promise<void> {
  const targets = [{ name, host: "127.0.0.1", port }];
  const load = { targets, rate: 100, durationMs: 300, seed: 1, size: BODY_BYTES, timeoutMs: 5_000 };
  const [error] = ((await runLoadOn(host, load)).samples[name] ?? []).flatMap((one) => one.error ?? []);
  if (error !== undefined) throw new Error(`rate: ${name} does not work: ${error}`);
}

/** Connections a second. Rejects when one of them failed. */
async function runAb(host: Host, port: number, clients: number, count: number): Promise<number> {
  const url = `http://127.0.0.1:${port}/${BODY_BYTES}`;
  const args = ["-q", "-n", String(count), "-c", String(clients), url];
  const { stdout, stderr, code } = await host.run(findProgram("ab")!, args, { timeoutMs: 120_000 });
  const number = (title: string): number => Number(new RegExp(`${title}:\\s+([\\d.]+)`).exec(stdout)?.[1]);
  const isWhole =
    code === 0 &&
    number("Complete requests") === count &&
    number("Failed requests") === 0 &&
    !stdout.includes("Non-2xx responses") &&
    number("Document Length") === BODY_BYTES;
  if (!isWhole) throw new Error(`rate: ab -c ${clients} to port ${port} failed:\n${stderr}${stdout}`);
  return number("Requests per second");
}
