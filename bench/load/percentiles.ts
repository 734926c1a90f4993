/** Order statistics of measured samples. Pure functions, without rounding. */

export interface Summary {
  readonly n: number;
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/**
 * The smallest sample that at least the share `p` (0 to 1) of all samples does not exceed: nearest rank, so the
 * result is always something that was measured. `sorted` ascends. Throws RangeError without samples or for a
 * share outside 0 to 1.
 */
export function percentile(sorted: readonly number[], p: number): number {
  if (!(p >= 0 && p <= 1)) throw new RangeError(`${p} is not a share from 0 to 1`);
  // p × n is off by a rounding error where it should be whole: 0.07 × 100 is 7.000000000000001.
  const rank = Math.ceil(Number((p * sorted.length).toPrecision(12)));
  const sample = sorted[Math.max(0, rank - 1)];
  if (sample === undefined) throw new RangeError("no samples");
  return sample;
}

/** The usual percentiles of samples in any order; they stay as they are. Throws RangeError without samples. */
export function summarize(samples: readonly number[]): Summary {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (p: number): number => percentile(sorted, p);
  return { n: samples.length, min: at(0), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

/** The middle sample, or the mean of the two in the middle. Throws RangeError without samples. */
export function median(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b);
  const high = sorted[sorted.length >> 1];
  const low = sorted[(sorted.length - 1) >> 1];
  if (high === undefined || low === undefined) throw new RangeError("no samples");
  return (low + high) / 2;
}
