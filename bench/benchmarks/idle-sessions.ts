/**
 * What sessions cost that are open and idle: memory in the process and in the kernel, as many sessions as the usual
 * limit of 20,000 open files has to hold, on each driver. A byte passes each way through every one before and after.
 */
import { readFileSync } from "node:fs";
import type { BenchContext } from "../context.ts";
import { startSession } from "../holding/session.ts";
import { type Row, rowsOf, samplesOf } from "../measure/compare.ts";
import { readSlabUse } from "../measure/slab.ts";
import { accelproxy } from "../peers/accelproxy.ts";
import { workers } from "./loopback.ts";

const SESSIONS = 8_000;
/** After these a process has what does not depend on how many sessions there are. */
const WARM_UP = 2_000;
const ORIGIN_PORT = 8080;
const PROXY_PORT = 9001;
/** Its heap has settled by then. */
const REST_MS = 2_000;

const DRIVERS = (["io_uring", "epoll"] as const).map((driver) =>
  accelproxy({ name: `accelproxy, ${driver}`, acceleration: "required", driver }),
);

const UNITS = { "user memory": "bytes each", "kernel memory": "bytes each" } as const;
type Held = Readonly<Record<keyof typeof UNITS, number>>;

export async function idleSessions(context: BenchContext): Promise<Row[]> {
  const rounds = context.quick ? 1 : 3;
  const observed = new Map<string, Held[]>(DRIVERS.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const peer of DRIVERS) {
      context.say(`pool: ${SESSIONS} idle sessions, ${peer.name}, round ${round + 1} of ${rounds}`);
      observed.get(peer.name)!.push(await holdOnce(context, peer));
    }
  }
  const common = {
    case: `${SESSIONS.toLocaleString("en")} idle sessions`,
    parameters: { sessions: SESSIONS },
  };
  return (Object.keys(UNITS) as (keyof Held)[]).flatMap((metric) => {
    const all = Object.entries(samplesOf(observed, metric));
    const samples = Object.fromEntries(all.filter(([, values]) => !values.some(Number.isNaN)));
    return rowsOf({ ...common, metric, unit: UNITS[metric], baseline: null, samples });
  });
}

async function holdOnce(context: BenchContext, peer: (typeof DRIVERS)[number]): Promise<Held> {
  const lab = await context.lab({ hosts: ["box"] });
  const host = lab.host("box");
  const ends = startSession(host, "idle-program", [PROXY_PORT, ORIGIN_PORT, SESSIONS, WARM_UP]);
  await ends.next("listening");
  const origin = { host: "127.0.0.1", port: ORIGIN_PORT };
  const { pid } = await peer.start({ host, folder: context.folder, port: PROXY_PORT, origin, workers });
  ends.go();
  await ends.next("warm");
  await rest();
  const [userBefore, kernelBefore] = [residentBytes(pid), readSlabUse()?.allBytes ?? Number.NaN];
  ends.go();
  await ends.next("held");
  await rest();
  const [userAfter, kernelAfter] = [residentBytes(pid), readSlabUse()?.allBytes ?? Number.NaN];
  ends.go();
  await ends.next("alive");
  await ends.end();
  await context.closeLab(lab);
  return {
    "user memory": (userAfter - userBefore) / SESSIONS,
    "kernel memory": (kernelAfter - kernelBefore) / SESSIONS,
  };
}

const rest = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, REST_MS));

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}
