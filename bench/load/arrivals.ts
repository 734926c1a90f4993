import { Random } from "../lab/random.ts";

/**
 * When requests of an open-loop load are due, in ms from its begin: a Poisson process, so that they come in
 * bursts and gaps as independent clients do, and never wait for an answer. `rate` is per second. The same seed
 * gives the same times. Throws RangeError for a rate or duration that is not positive.
 */
export function poissonArrivals(rate: number, durationMs: number, seed: number): number[] {
  if (!(rate > 0 && durationMs > 0)) throw new RangeError(`rate ${rate} and duration ${durationMs} ms`);
  const random = new Random(seed);
  const arrivals: number[] = [];
  let atMs = 0;
  for (;;) {
    atMs += (-Math.log(1 - random.next()) / rate) * 1e3;
    if (atMs >= durationMs) return arrivals;
    arrivals.push(atMs);
  }
}

/** A stretch of a load: `rate` a second for `durationMs`; a rate of 0 is a pause. */
export interface Phase {
  readonly rate: number;
  readonly durationMs: number;
}

/** Poisson arrivals of several phases, one after the other. Throws RangeError like poissonArrivals(). */
export function phasedArrivals(phases: readonly Phase[], seed: number): number[] {
  let beginMs = 0;
  return phases.flatMap(({ rate, durationMs }, index) => {
    const from = beginMs;
    beginMs += durationMs;
    if (rate === 0) return [];
    return poissonArrivals(rate, durationMs, seed + index).map((atMs) => from + atMs);
  });
}
