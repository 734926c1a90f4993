/**
 * What a worker counts, in memory the main thread reads at any time without stopping it. Each worker has its
 * own block and is its only writer; a double is exact to 2^53.
 */
import type { ConnectionPath, HistogramCounts } from "../status.ts";
import { PATHS } from "../status.ts";

/** One pair of listener and upstream. */
export const ROUTES_MAX = 1_024;
/** What is counted of a route, by position: a name would be looked up at each count. */
export const COUNT = {
  total: 0,
  active: 1,
  bytesUpstream: 2,
  bytesDownstream: 3,
  roundTripsSaved: 4,
  secondsSaved: 5,
} as const;
type Count = (typeof COUNT)[keyof typeof COUNT];
const PATHS_AT = 6;
const ROUTE_CELLS = PATHS_AT + PATHS.length;

export const MATERIALIZE_BOUNDS = [
  5e-6, 7.5e-6, 10e-6, 12.5e-6, 15e-6, 20e-6, 30e-6, 50e-6, 100e-6, 250e-6, 1e-3, 10e-3,
] as const;
export const FIRST_BYTE_BOUNDS = [
  0.5e-3, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 75e-3, 100e-3, 150e-3, 250e-3, 500e-3, 1, 2.5, 5, 10,
] as const;

const MATERIALIZE_AT = ROUTES_MAX * ROUTE_CELLS;
const MATERIALIZE_CELLS = MATERIALIZE_BOUNDS.length + 2; // buckets, one above, sum
const FIRST_BYTE_AT = MATERIALIZE_AT + MATERIALIZE_CELLS;
const FIRST_BYTE_CELLS = FIRST_BYTE_BOUNDS.length + 2;
const CELLS = FIRST_BYTE_AT + PATHS.length * FIRST_BYTE_CELLS;

export class EngineCounters {
  readonly buffer: SharedArrayBuffer;
  readonly #cells: Float64Array;

  constructor(buffer = new SharedArrayBuffer(CELLS * 8)) {
    this.buffer = buffer;
    this.#cells = new Float64Array(buffer);
  }

  add(route: number, count: Count, amount: number): void {
    this.#cells[route * ROUTE_CELLS + count]! += amount;
  }

  get(route: number, count: Count): number {
    return this.#cells[route * ROUTE_CELLS + count]!;
  }

  countPath(route: number, path: ConnectionPath, amount = 1): void {
    this.#cells[route * ROUTE_CELLS + PATHS_AT + PATHS.indexOf(path)]! += amount;
  }

  path(route: number, path: ConnectionPath): number {
    return this.#cells[route * ROUTE_CELLS + PATHS_AT + PATHS.indexOf(path)]!;
  }

  observeMaterialize(seconds: number): void {
    this.#observe(MATERIALIZE_AT, MATERIALIZE_BOUNDS, seconds);
  }

  observeFirstByte(path: ConnectionPath, seconds: number): void {
    this.#observe(FIRST_BYTE_AT + PATHS.indexOf(path) * FIRST_BYTE_CELLS, FIRST_BYTE_BOUNDS, seconds);
  }

  get materialize(): HistogramCounts {
    return this.#histogram(MATERIALIZE_AT, MATERIALIZE_BOUNDS);
  }

  firstByte(path: ConnectionPath): HistogramCounts {
    return this.#histogram(FIRST_BYTE_AT + PATHS.indexOf(path) * FIRST_BYTE_CELLS, FIRST_BYTE_BOUNDS);
  }

  /** Adds what another process observed, if it has the same buckets. */
  inherit(materialize: HistogramCounts, firstByte: Readonly<Record<ConnectionPath, HistogramCounts>>): void {
    this.#add(MATERIALIZE_AT, MATERIALIZE_BOUNDS, materialize);
    for (const [index, path] of PATHS.entries()) {
      this.#add(FIRST_BYTE_AT + index * FIRST_BYTE_CELLS, FIRST_BYTE_BOUNDS, firstByte[path]);
    }
  }

  #add(at: number, bounds: readonly number[], { boundsSeconds, counts, sumSeconds }: HistogramCounts): void {
    if (boundsSeconds.join() !== bounds.join() || counts.length !== bounds.length + 1) return;
    for (const [bucket, count] of counts.entries()) this.#cells[at + bucket]! += count;
    this.#cells[at + bounds.length + 1]! += sumSeconds;
  }

  #observe(at: number, bounds: readonly number[], seconds: number): void {
    let bucket = 0;
    while (bucket < bounds.length && seconds > bounds[bucket]!) bucket++;
    this.#cells[at + bucket]! += 1;
    this.#cells[at + bounds.length + 1]! += seconds;
  }

  #histogram(at: number, boundsSeconds: readonly number[]): HistogramCounts {
    const counts = Array.from(this.#cells.subarray(at, at + boundsSeconds.length + 1));
    return { boundsSeconds, counts, sumSeconds: this.#cells[at + boundsSeconds.length + 1]! };
  }
}

/** The same histogram summed over workers. */
export function sumHistograms(parts: readonly HistogramCounts[]): HistogramCounts {
  const [first] = parts;
  if (!first) throw new Error("no histogram to sum");
  return {
    boundsSeconds: first.boundsSeconds,
    counts: first.counts.map((_, bucket) => parts.reduce((sum, part) => sum + part.counts[bucket]!, 0)),
    sumSeconds: parts.reduce((sum, part) => sum + part.sumSeconds, 0),
  };
}
