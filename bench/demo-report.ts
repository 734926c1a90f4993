/** What the demo says about its samples. Pure functions. */
import type { Sample } from "./load/generator.ts";
import { type Summary, summarize } from "./load/percentiles.ts";

/** The share of the direct first byte that the accelerated one may take: one round trip instead of two. */
export const RATIO_MAX = 0.52;

export interface DemoSamples {
  readonly direct: readonly Sample[];
  readonly accelerated: readonly Sample[];
}

/** How the proxy's sessions came by their connections: its counters over the run. */
export interface PoolCounts {
  readonly hits: number;
  readonly misses: number;
}

interface Row {
  readonly name: string;
  readonly firstByteMs: Summary | undefined;
  readonly errors: number;
  readonly hitRate: string;
}

/** Lines of a table: one row for each way, times in ms. A way without any answer has dashes. */
export function formatTable(samples: DemoSamples, counts: PoolCounts): string {
  const rows = [row("direct", samples.direct, "–"), row("accelerated", samples.accelerated, hitRate(counts))];
  const head = ["first byte, ms", "n", "p50", "p90", "p99", "errors", "hit rate"];
  const ms = (value: number | undefined): string => value?.toFixed(1) ?? "–";
  const lines = rows.map(({ name, firstByteMs: times, errors, hitRate: hits }) => [
    name,
    String(times?.n ?? 0),
    ms(times?.p50),
    ms(times?.p90),
    ms(times?.p99),
    String(errors),
    hits,
  ]);
  const widths = head.map((title, column) =>
    Math.max(title.length, ...lines.map((cells) => cells[column]?.length ?? 0)),
  );
  return [head, ...lines]
    .map((cells) =>
      cells
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join("  "),
    )
    .join("\n");
}

export interface Verdict {
  readonly isGood: boolean;
  /** One sentence for people. */
  readonly sentence: string;
}

/** Whether the accelerated way took one round trip where the direct one took two, without an error. */
export function judge(samples: DemoSamples, rttMs: number): Verdict {
  const direct = times(samples.direct);
  const accelerated = times(samples.accelerated);
  const errors = [...samples.direct, ...samples.accelerated].flatMap(({ error }) => error ?? []);
  if (direct === undefined || accelerated === undefined) {
    return { isGood: false, sentence: `Nothing to compare: ${errors[0] ?? "no requests were sent"}.` };
  }
  const ratio = accelerated.p50 / direct.p50;
  const trips = (ms: number): string => `${(ms / rttMs).toFixed(2)} round trips (${ms.toFixed(1)} ms)`;
  const comparison = `half of all requests had their first byte within ${trips(accelerated.p50)} through accelproxy, ${trips(direct.p50)} without`;
  if (errors.length > 0) {
    const those = errors.length === 1 ? "one request" : `${errors.length} requests`;
    return { isGood: false, sentence: `${those} failed (${errors[0]}); ${comparison}.` };
  }
  if (ratio > RATIO_MAX) {
    return {
      isGood: false,
      sentence: `Not accelerated: ${comparison}; that is ${ratio.toFixed(2)} of it, more than ${RATIO_MAX}.`,
    };
  }
  return { isGood: true, sentence: `One round trip instead of two: ${comparison}.` };
}

function row(name: string, samples: readonly Sample[], hits: string): Row {
  const errors = samples.filter(({ error }) => error !== null).length;
  return { name, firstByteMs: times(samples), errors, hitRate: hits };
}

function times(samples: readonly Sample[]): Summary | undefined {
  const firstBytes = samples.flatMap(({ firstByteMs, error }) => (error === null ? (firstByteMs ?? []) : []));
  return firstBytes.length > 0 ? summarize(firstBytes) : undefined;
}

function hitRate({ hits, misses }: PoolCounts): string {
  return hits + misses === 0 ? "–" : `${((100 * hits) / (hits + misses)).toFixed(1)} %`;
}
