/** Comparisons in pairs: variants alternate within one run, so that what disturbs one disturbs the others too. */
import { median } from "../load/percentiles.ts";

export type Parameters = Readonly<Record<string, string | number>>;

/** One measured quantity of one variant in one case; the rows of a result file. */
export interface Row {
  /** What was done, without the variant: rows with the same case and metric were measured together. */
  readonly case: string;
  readonly variant: string;
  readonly parameters: Parameters;
  readonly metric: string;
  readonly unit: string;
  readonly samples: readonly number[];
  readonly median: number;
  /** The variant this one is compared with; null for that one itself, and where there is none. */
  readonly ratioTo: string | null;
  /** Median of the ratios of each pair; null where there is nothing to compare. */
  readonly ratio: number | null;
  /** Where that median lies with 95 % confidence, from order statistics. */
  readonly ratioInterval: readonly [number, number] | null;
}

/** What was measured together: one list per variant, in which the same index is one pair. */
export interface Measurement {
  readonly case: string;
  readonly parameters?: Parameters;
  readonly metric: string;
  readonly unit: string;
  readonly baseline: string | null;
  /** Null where a try gave nothing; its pairs do not count. */
  readonly samples: Readonly<Record<string, readonly (number | null)[]>>;
}

/** Decimals kept of a sample: a nanosecond of what is given in µs. */
const DECIMALS = 3;
/** 97.5 % of a normal distribution lie below this many deviations. */
const Z = 1.96;

/** The rows of a measurement, one per variant that has samples. */
export function rowsOf(measurement: Measurement): Row[] {
  const { parameters = {}, metric, unit, baseline } = measurement;
  const base = baseline === null ? undefined : measurement.samples[baseline];
  return Object.entries(measurement.samples).flatMap(([variant, tries]) => {
    const samples = tries.filter((value) => value !== null).map(round);
    if (samples.length === 0) return [];
    const compared = variant === baseline || base === undefined ? undefined : pairwiseRatio(tries, base);
    return {
      case: measurement.case,
      variant,
      parameters,
      metric,
      unit,
      samples,
      median: median(samples),
      ratioTo: compared === undefined ? null : baseline,
      ratio: compared?.ratio ?? null,
      ratioInterval: compared?.interval ?? null,
    };
  });
}

export interface Ratio {
  readonly ratio: number;
  readonly interval: readonly [number, number];
}

/**
 * The median of candidate ÷ baseline over the pairs that have both, and its interval. Undefined without a pair
 * whose baseline is above zero.
 */
export function pairwiseRatio(
  candidate: readonly (number | null)[],
  baseline: readonly (number | null)[],
): Ratio | undefined {
  const ratios = candidate.flatMap((value, index) => {
    const base = baseline[index] ?? null;
    return value === null || base === null || base <= 0 ? [] : value / base;
  });
  if (ratios.length === 0) return undefined;
  const [low, high] = medianInterval(ratios);
  return { ratio: round(median(ratios)), interval: [round(low), round(high)] };
}

/**
 * Order statistics that enclose the median with 95 % confidence, whatever the distribution: those n/2 ± 0.98 √n
 * from the ends. With fewer than six samples that is all of them.
 */
export function medianInterval(samples: readonly number[]): [number, number] {
  const sorted = samples.toSorted((a, b) => a - b);
  const n = sorted.length;
  const low = Math.max(0, Math.floor(n / 2 - (Z * Math.sqrt(n)) / 2) - 1);
  const [first, last] = [sorted[low], sorted[n - 1 - low]];
  if (first === undefined || last === undefined) throw new RangeError("no samples");
  return [first, last];
}

/**
 * Measures every variant once a round, each round beginning with the next one, so that no variant always follows
 * the same neighbour. Returns the observations by variant, in the order of rounds.
 */
export async function alternate<V extends { readonly name: string }, O>(
  variants: readonly V[],
  rounds: number,
  measure: (variant: V, round: number) => Promise<O>,
): Promise<Map<string, O[]>> {
  const observed = new Map<string, O[]>(variants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < variants.length; turn++) {
      const variant = variants[(round + turn) % variants.length]!;
      observed.get(variant.name)!.push(await measure(variant, round));
    }
  }
  return observed;
}

/** Turns observations (metrics by name) into measurements' samples: one metric of every variant. */
export function samplesOf<M extends string>(
  observed: ReadonlyMap<string, readonly Readonly<Record<M, number>>[]>,
  metric: M,
): Record<string, number[]> {
  return Object.fromEntries([...observed].map(([name, all]) => [name, all.map((one) => one[metric])]));
}

/** Lists by key, in the order of each key's first value (Map.groupBy, which Node 20 lacks). */
export function groupBy<T>(values: readonly T[], keyOf: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const key = keyOf(value);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [value]);
    else group.push(value);
  }
  return groups;
}

function round(value: number): number {
  return Number(value.toFixed(DECIMALS));
}
