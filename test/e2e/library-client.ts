/** A program that uses the library on a host of the lab, told what to request over IPC. */
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, type Dispatcher } from "undici";
import { type Connector, connector, retryUndelivered } from "../../library/index.ts";

/** Requests of consecutive numbers, all at once or one after another, each on a fresh connection. */
export interface Job {
  readonly origin: string;
  readonly method: "GET" | "POST";
  readonly first: number;
  readonly count: number;
  readonly isOneByOne: boolean;
  readonly isAccelerated: boolean;
}

export type ToClient =
  | { readonly kind: "start"; readonly ca: string; readonly min: number }
  | { readonly kind: "warmUp"; readonly origins: readonly string[] }
  | { readonly kind: "requests"; readonly jobs: readonly Job[] };

export interface Answered {
  readonly id: number;
  readonly ms: number;
  readonly error: string | undefined;
}

export interface FromClient {
  readonly answered: readonly Answered[];
  readonly hits: number;
  readonly replays: number;
}

const READY_LIMIT_MS = 10_000;

let ours: Connector;
let min = 0;
let accelerated: Dispatcher;
let ordinary: Dispatcher;

async function request(dispatcher: Dispatcher, { origin, method }: Job, id: number): Promise<Answered> {
  const startedMs = performance.now();
  try {
    const body = method === "POST" ? `number ${id}` : null;
    const options = { origin, path: `/id/${id}`, method, body, reset: true, headersTimeout: 8_000 };
    const response = await dispatcher.request(options);
    const ms = performance.now() - startedMs;
    const text = await response.body.text();
    const isRight = response.statusCode === 200 && text === (body ?? "");
    return { id, ms, error: isRight ? undefined : `${response.statusCode} ${text}` };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return { id, ms: performance.now() - startedMs, error: `${code} ${message}` };
  }
}

async function run(job: Job): Promise<Answered[]> {
  const dispatcher = job.isAccelerated ? accelerated : ordinary;
  const ids = Array.from({ length: job.count }, (_, index) => job.first + index);
  if (!job.isOneByOne) return Promise.all(ids.map((id) => request(dispatcher, job, id)));
  const answered: Answered[] = [];
  for (const id of ids) {
    answered.push(await request(dispatcher, job, id));
    await sleep(20);
  }
  return answered;
}

/** Resolves once every pool has as many ready as it keeps; a pool that found its server forgetful waits a second. */
async function ready(servers: number): Promise<void> {
  const endsAt = performance.now() + READY_LIMIT_MS;
  const isReady = () =>
    ours.stats().length === servers && ours.stats().every(({ ready: count }) => count >= min);
  while (!isReady()) {
    if (performance.now() > endsAt) throw new Error(`not ready: ${JSON.stringify(ours.stats())}`);
    await sleep(5);
  }
}

async function obey(message: ToClient): Promise<readonly Answered[]> {
  if (message.kind === "start") {
    min = message.min;
    const options = { ca: message.ca };
    ours = connector({ min, max: 4 * min, maxSynRate: 2_000, ...options });
    accelerated = new Agent({ connect: ours }).compose(retryUndelivered());
    ordinary = new Agent({ connect: options });
    return [];
  }
  if (message.kind === "warmUp") {
    const job = { method: "GET", first: -1, count: 1, isOneByOne: true, isAccelerated: true } as const;
    for (const origin of message.origins) if (ours.stats().length < 2) await run({ ...job, origin });
    await ready(message.origins.length);
    return [];
  }
  return (await Promise.all(message.jobs.map(run))).flat();
}

const sum = (field: "hits" | "replays"): number =>
  ours.stats().reduce((total, each) => total + each[field], 0);

process.on("message", (message) => {
  void obey(message as ToClient).then((answered) => {
    process.send?.({ answered, hits: sum("hits"), replays: sum("replays") } satisfies FromClient);
  });
});
