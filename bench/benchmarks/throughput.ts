/**
 * How fast bytes pass a proxy on loopback and what a GiB costs it: one stream and 32, down to the client and up from
 * it, CPU time of the proxy process alone. Down, the origin sends a file by sendfile and the client reads into one
 * buffer; up, the client writes out of one and the origin reads. What the two manage without a proxy is a row of its
 * own ("direct").
 */
import type { BenchContext, Benchmark } from "../context.ts";
import type { Host } from "../lab/lab.ts";
import { type Direction, type TransferOptions, transferOn } from "../load/processes.ts";
import { alternate, type Row, rowsOf, samplesOf } from "../measure/compare.ts";
import { cpuBetween, readCpu } from "../measure/cpu.ts";
import { accelproxy } from "../peers/accelproxy.ts";
import { haproxyTcp } from "../peers/haproxy.ts";
import { nginxStream } from "../peers/nginx.ts";
import { nodeProxy } from "../peers/node-proxy.ts";
import { startLoopback, workers } from "./loopback.ts";

const POOL = { min: 32, max: 64 };
const PEERS = [
  accelproxy({ name: "accelproxy", acceleration: "required", pool: POOL }),
  accelproxy({ name: "accelproxy, epoll", acceleration: "required", driver: "epoll", pool: POOL }),
  haproxyTcp,
  nginxStream,
  nodeProxy,
];
const BASELINE = haproxyTcp.name;
const DIRECTIONS: readonly Direction[] = ["down", "up"];
const STREAMS = [1, 32];
/** Of each round. Several, so that a file stays in the page cache. */
const TURNS = 4;
const CHECKED_BYTES = 64 << 20;
const GIB = 2 ** 30;

interface Subject {
  readonly name: string;
  readonly port: number;
  readonly pid: number | undefined;
}

interface Observation {
  readonly throughput: number;
  readonly "CPU, user": number;
  readonly "CPU, system": number;
  readonly "CPU, all": number;
}

const UNITS: Readonly<Record<keyof Observation, string>> = {
  throughput: "GB/s",
  "CPU, user": "s a GiB",
  "CPU, system": "s a GiB",
  "CPU, all": "s a GiB",
};

export const throughput: Benchmark = {
  name: "throughput",
  async run(context) {
    const rows: Row[] = [];
    for (const direction of DIRECTIONS) rows.push(...(await inDirection(context, direction)));
    return rows;
  },
};

async function inDirection(context: BenchContext, direction: Direction): Promise<Row[]> {
  // Of each round, all streams together.
  const [totalBytes, rounds] = context.quick ? [GIB / 4, 3] : [GIB, 5];
  const loads = STREAMS.map((streams) => ({ direction, streams, length: totalBytes / TURNS / streams }));
  const files = direction === "down" ? [CHECKED_BYTES, ...loads.map(({ length }) => length)] : [];
  const { lab, host, origin, peers } = await startLoopback(context, PEERS, files);
  const subjects: Subject[] = [{ name: "direct", port: origin.port, pid: undefined }, ...peers];
  for (const { name, port } of subjects) {
    context.say(`throughput: ${name}, ${direction}: every byte of 64 MiB`);
    await transferOn(host, { port, direction, length: CHECKED_BYTES, streams: 1, check: true });
  }
  const rows: Row[] = [];
  for (const load of loads) {
    const name = `${load.streams} ${load.streams === 1 ? "stream" : "streams"} ${direction}`;
    context.say(`throughput: ${name}`);
    const observed = await alternate(subjects, rounds, (subject) => observe(host, subject, load));
    const parameters = { direction, streams: load.streams, workers };
    for (const metric of Object.keys(UNITS) as (keyof Observation)[]) {
      const samples = Object.fromEntries(
        Object.entries(samplesOf(observed, metric)).filter(([, all]) => !all.some(Number.isNaN)),
      );
      const common = { case: `${name} on loopback`, parameters, baseline: BASELINE };
      rows.push(...rowsOf({ ...common, metric, unit: UNITS[metric], samples }));
    }
  }
  await context.closeLab(lab);
  return rows;
}

async function observe(
  host: Host,
  { port, pid }: Subject,
  load: Omit<TransferOptions, "port">,
): Promise<Observation> {
  const before = pid === undefined ? undefined : readCpu(pid);
  const { bytes, seconds } = await transferOn(host, { ...load, port, turns: TURNS });
  const cpu =
    pid === undefined || before === undefined
      ? { userUs: Number.NaN, systemUs: Number.NaN }
      : cpuBetween(before, readCpu(pid));
  const perGib = GIB / bytes / 1e6;
  return {
    throughput: bytes / seconds / 1e9,
    "CPU, user": cpu.userUs * perGib,
    "CPU, system": cpu.systemUs * perGib,
    "CPU, all": (cpu.userUs + cpu.systemUs) * perGib,
  };
}
