/**
 * What half-open connections cost while they wait: memory in the process and in both kernels, packets, CPU time,
 * the time to fill a pool, and how long a take() takes. And what the handshake socket, which the kernel offers every
 * TCP packet of the host, costs a bulk transfer that has nothing to do with it.
 */
import type { BenchContext, Benchmark } from "../context.ts";
import { type Session, startSession } from "../holding/session.ts";
import type { Link } from "../lab/lab.ts";
import { transferOn } from "../load/processes.ts";
import { alternate, type Row, rowsOf, samplesOf } from "../measure/compare.ts";
import { cpuBetween, readCpu } from "../measure/cpu.ts";
import { readSlabUse } from "../measure/slab.ts";
import { idleSessions } from "./idle-sessions.ts";
import { startLoopback } from "./loopback.ts";

const COUNTS = [1, 100, 1_000, 5_000];
/** Below it the other work of the machine changes more of the kernel's memory than the half-opens. */
const KERNEL_COUNT_MIN = 1_000;
const RTT_MS = 10;
const PORT = 8080;
const BACKLOG = 65_535;
const VARIANT = "accelproxy";
const TRANSFER_BYTES = 512 << 20;
const GIB = 2 ** 30;

interface Held {
  readonly "user memory": number | null;
  readonly "kernel memory, own side": number | null;
  readonly "kernel memory, server": number | null;
  readonly packets: number;
  readonly CPU: number;
  readonly "time to fill": number;
}

const UNITS: Readonly<Record<keyof Held, string>> = {
  "user memory": "bytes each",
  "kernel memory, own side": "bytes each",
  "kernel memory, server": "bytes each",
  packets: "1/s each",
  CPU: "% of one processor",
  "time to fill": "ms",
};

export const pool: Benchmark = {
  name: "pool",
  async run(context) {
    const rows: Row[] = [];
    for (const count of COUNTS) rows.push(...(await holding(context, count)));
    rows.push(...(await besideTransfer(context)));
    rows.push(...(await idleSessions(context)));
    return rows;
  },
};

/** Rows of holding `count` half-opens; each round in a lab and a process of its own. */
async function holding(context: BenchContext, count: number): Promise<Row[]> {
  const [rounds, restSeconds] = context.quick ? [1, 4] : [3, 10];
  const held: Held[] = [];
  const takesUs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    context.say(`pool: ${count} half-opens, round ${round + 1} of ${rounds}`);
    const observed = await holdOnce(context, count, restSeconds);
    held.push(observed.held);
    takesUs.push(...observed.takesUs);
  }
  const name = `${count.toLocaleString("en")} half-open${count === 1 ? "" : "s"}, RTT ${RTT_MS} ms`;
  const common = { case: name, parameters: { count }, baseline: null };
  const rowsOfHeld = (Object.keys(UNITS) as (keyof Held)[]).flatMap((metric) => {
    const samples = { [VARIANT]: held.map((one) => one[metric]) };
    return rowsOf({ ...common, metric, unit: UNITS[metric], samples });
  });
  return [
    ...rowsOf({ ...common, metric: "take()", unit: "µs", samples: { [VARIANT]: takesUs } }),
    ...rowsOfHeld,
  ];
}

async function holdOnce(
  context: BenchContext,
  count: number,
  restSeconds: number,
): Promise<{ held: Held; takesUs: readonly number[] }> {
  const lab = await context.lab({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  const [near, far] = [lab.host("near"), lab.host("far")];
  far.sysctl({ "net.core.somaxconn": BACKLOG, "net.ipv4.tcp_max_syn_backlog": BACKLOG });
  const server = startSession(far, "listen-program", [PORT]);
  await server.next("listening");
  const holder = startSession(near, "hold-program", [far.address(), PORT, count, restSeconds]);
  const started = await holder.next("started");
  const slabBefore = readSlabUse();
  holder.go();
  const filled = await holder.next("filled");
  const slabAfter = readSlabUse();
  const packetsBefore = await packets(lab.link());
  holder.go();
  const rested = await holder.next("rested");
  const seconds = number(rested, "restedMs") / 1e3;
  const packetsEach = ((await packets(lab.link())) - packetsBefore) / seconds / count;
  if (number(rested, "ready") < 0.9 * count) {
    throw new Error(`pool: only ${number(rested, "ready")} of ${count} half-opens were kept`);
  }
  holder.go();
  const { takesUs, missed } = (await holder.next("taken")) as { takesUs?: number[]; missed?: number };
  if (takesUs === undefined || takesUs.length === 0) throw new Error(`pool: all ${missed} takes missed`);
  holder.go();
  await context.closeLab(lab);
  const isKernelKnown = slabBefore !== undefined && slabAfter !== undefined && count >= KERNEL_COUNT_MIN;
  if (!isKernelKnown) {
    context.skip(
      `kernel memory of ${count} half-open${count === 1 ? "" : "s"}`,
      slabAfter === undefined ? "needs root (/proc/slabinfo)" : "less than what other work changes",
    );
  }
  const requestBytes = isKernelKnown ? slabAfter.requestBytes - slabBefore.requestBytes : 0;
  const allBytes = isKernelKnown ? slabAfter.allBytes - slabBefore.allBytes : 0;
  const held: Held = {
    "user memory": (number(filled, "rssBytes") - number(started, "rssBytes")) / count,
    "kernel memory, own side": isKernelKnown ? (allBytes - requestBytes) / count : null,
    "kernel memory, server": isKernelKnown ? requestBytes / count : null,
    packets: packetsEach,
    CPU: 100 * number(rested, "cpuShare"),
    "time to fill": number(filled, "fillMs"),
  };
  return { held, takesUs };
}

/** A bulk transfer on loopback with and without a handshake socket on the host. */
async function besideTransfer(context: BenchContext): Promise<Row[]> {
  const rounds = context.quick ? 5 : 15;
  context.say("pool: a transfer beside the handshake socket");
  const { lab, host, origin, originPid } = await startLoopback(context, [], [TRANSFER_BYTES]);
  const without = "no handshake socket";
  const variants = [{ name: without }, { name: "with a handshake socket" }];
  const transfer = { port: origin.port, direction: "down", length: TRANSFER_BYTES, streams: 1 } as const;
  await transferOn(host, { ...transfer, check: true });
  const observed = await alternate(variants, rounds, async ({ name }) => {
    let receiver: Session | undefined;
    if (name !== without) {
      receiver = startSession(host, "receiver-program");
      await receiver.next("listening");
    }
    const before = readCpu(originPid);
    const { bytes, seconds, cpuUs } = await transferOn(host, transfer);
    const cpu = cpuBetween(before, readCpu(originPid));
    await receiver?.end();
    const cpuSeconds = (cpu.userUs + cpu.systemUs + cpuUs) / 1e6;
    return {
      throughput: bytes / seconds / 1e9,
      "CPU of both ends": (cpuSeconds * GIB) / bytes,
    };
  });
  await context.closeLab(lab);
  const common = { case: "a transfer of 512 MiB on the same host", baseline: without };
  return [
    ...rowsOf({ ...common, metric: "throughput", unit: "GB/s", samples: samplesOf(observed, "throughput") }),
    ...rowsOf({
      ...common,
      metric: "CPU of both ends",
      unit: "s a GiB",
      samples: samplesOf(observed, "CPU of both ends"),
    }),
  ];
}

/** Packets that entered the line so far, both ways. */
async function packets(link: Link): Promise<number> {
  const { from } = await link.counters();
  return Object.values(from).reduce((sum, direction) => sum + direction.packets, 0);
}

function number(facts: Readonly<Record<string, unknown>>, name: string): number {
  const value = facts[name];
  if (typeof value !== "number") throw new Error(`pool: no ${name} in ${JSON.stringify(facts)}`);
  return value;
}
