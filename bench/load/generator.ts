/**
 * Open-loop load: requests leave when they are due, whether or not earlier ones were answered, each over a
 * connection of its own. A latency counts from the time the request was *due*: a generator or server that falls
 * behind shows up in the samples instead of thinning them out (coordinated omission).
 */
import { type Phase, phasedArrivals } from "./arrivals.ts";
import { bodyOf } from "./body.ts";
import { exchange, type Request, requestFor, type Target } from "./exchange.ts";
import { pace } from "./pacer.ts";
import { warmUp } from "./warm-up.ts";

export interface NamedTarget extends Target {
  readonly name: string;
}

export interface LoadOptions {
  /** Taken in turn, one for each arrival. */
  readonly targets: readonly NamedTarget[];
  /** Arrivals a second, all targets together. */
  readonly rate: number;
  readonly durationMs: number;
  /** What comes after that: bursts and pauses. */
  readonly later?: readonly Phase[];
  readonly seed: number;
  /** Bytes of a response's body. */
  readonly size: number;
  readonly timeoutMs: number;
}

/** One request. Times are ms: `atMs` from the begin of the load, the others from when it was due. */
export interface Sample {
  readonly atMs: number;
  /** How late it was sent: the generator's own part. */
  readonly lateMs: number;
  /** Null when nothing came. */
  readonly firstByteMs: number | null;
  readonly lastByteMs: number | null;
  /** Null when the answer was right and whole. */
  readonly error: string | null;
}

export interface LoadResult {
  readonly options: LoadOptions;
  /** By target's name, in the order of arrival. */
  readonly samples: Readonly<Record<string, readonly Sample[]>>;
}

/** From here to the first arrival at the earliest. */
const BEGIN_DELAY_MS = 50;

/** Runs a load to its last answer. `onSample` sees each request as it ends. */
export async function runLoad(
  options: LoadOptions,
  onSample: (target: string, sample: Sample) => void = () => {},
): Promise<LoadResult> {
  const { targets, rate, durationMs, later = [], seed, size, timeoutMs } = options;
  const expected = bodyOf(size);
  const lanes = targets.map((target) => ({
    target,
    request: requestFor(target, expected, timeoutMs),
    samples: [] as { order: number; sample: Sample }[],
  }));
  if (lanes.length === 0) throw new RangeError("a load needs a target");
  const arrivals = phasedArrivals([{ rate, durationMs }, ...later], seed);
  await warmUp(size);

  const begin = performance.now() + BEGIN_DELAY_MS;
  const answers: Promise<void>[] = [];
  const times = arrivals.map((atMs) => begin + atMs);
  await pace(times, (index) => {
    const lane = lanes[index % lanes.length]!;
    const dueAt = times[index]!;
    answers.push(
      send(lane.target, lane.request, dueAt, begin).then((sample) => {
        lane.samples.push({ order: index, sample });
        onSample(lane.target.name, sample);
      }),
    );
  });
  await Promise.all(answers);
  const sorted = lanes.map(
    ({ target, samples }) =>
      [target.name, samples.sort((a, b) => a.order - b.order).map(({ sample }) => sample)] as const,
  );
  return { options, samples: Object.fromEntries(sorted) };
}

function send(target: Target, request: Request, dueAt: number, begin: number): Promise<Sample> {
  return new Promise((resolve) => {
    exchange(target, request, ({ sentAt, firstByteAt, lastByteAt, error }) =>
      resolve({
        atMs: dueAt - begin,
        lateMs: sentAt - dueAt,
        firstByteMs: Number.isNaN(firstByteAt) ? null : firstByteAt - dueAt,
        lastByteMs: error === undefined ? lastByteAt - dueAt : null,
        error: error ?? null,
      }),
    );
  });
}
