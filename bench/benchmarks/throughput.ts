/**
 * How fast bytes pass a proxy on loopback and what a GiB costs it: one stream and 32, downwards, CPU time of the
 * proxy process alone. The origin sends a file by sendfile, the client reads into one buffer; what the two manage
 * without a proxy is a row of its own ("direct").
 */
import type { Benchmark } from "../context.ts";
import type { Host } from "../lab/lab.ts";
import { drainOn } from "../load/processes.ts";
import { alternate, type Row, rowsOf, samplesOf } from "../measure/compare.ts";
import { cpuBetween, cpuTimeOf } from "../measure/cpu.ts";
import { accelproxy } from "../peers/accelproxy.ts";
import { haproxyTcp } from "../peers/haproxy.ts";
import { nginxStream } from "../peers/nginx.ts";
import { nodeProxy } from "../peers/node-proxy.ts";
import { startLoopback, workers } from "./loopback.ts";

const PEERS = [
  accelproxy({ name: "accelproxy", acceleration: "required", pool: { min: 32, max: 64 } }),
  haproxyTcp,
  nginxStream,
  nodeProxy,
];
const BASELINE = haproxyTcp.name;
const STREAMS = [1, 32];
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
    // Of each run, all streams together.
    const [totalBytes, rounds] = context.quick ? [GIB, 3] : [4 * GIB, 9];
    const lengths = STREAMS.map((streams) => totalBytes / 4 / streams);
    const { lab, host, origin, peers } = await startLoopback(context, PEERS, [CHECKED_BYTES, ...lengths]);
    const subjects: Subject[] = [{ name: "direct", port: origin.port, pid: undefined }, ...peers];
    for (const { name, port } of subjects) {
      context.say(`throughput: ${name}: every byte of 64 MiB`);
      await drainOn(host, { port, length: CHECKED_BYTES, streams: 1, check: true });
    }
    const rows: Row[] = [];
    for (const [index, streams] of STREAMS.entries()) {
      context.say(`throughput: ${streams} streams`);
      const load = { streams, length: lengths[index]!, repeat: 4 };
      const observed = await alternate(subjects, rounds, (subject) => observe(host, subject, load));
      const name = `${streams} ${streams === 1 ? "stream" : "streams"} on loopback`;
      for (const metric of Object.keys(UNITS) as (keyof Observation)[]) {
        const samples = Object.fromEntries(
          Object.entries(samplesOf(observed, metric)).filter(([, all]) => !all.some(Number.isNaN)),
        );
        const parameters = { streams, workers };
        rows.push(
          ...rowsOf({ case: name, parameters, metric, unit: UNITS[metric], baseline: BASELINE, samples }),
        );
      }
    }
    await context.closeLab(lab);
    return rows;
  },
};

/** One run: the same load several times, so that what is fetched stays in the page cache. */
async function observe(
  host: Host,
  { port, pid }: Subject,
  { streams, length, repeat }: { streams: number; length: number; repeat: number },
): Promise<Observation> {
  const before = pid === undefined ? undefined : cpuTimeOf(pid);
  let bytes = 0;
  let seconds = 0;
  for (let turn = 0; turn < repeat; turn++) {
    const drained = await drainOn(host, { port, length, streams });
    bytes += drained.bytes;
    seconds += drained.seconds;
  }
  const cpu =
    pid === undefined || before === undefined
      ? { userUs: Number.NaN, systemUs: Number.NaN }
      : cpuBetween(before, cpuTimeOf(pid));
  const perGib = GIB / bytes / 1e6;
  return {
    throughput: bytes / seconds / 1e9,
    "CPU, user": cpu.userUs * perGib,
    "CPU, system": cpu.systemUs * perGib,
    "CPU, all": (cpu.userUs + cpu.systemUs) * perGib,
  };
}
