/** Two histograms with the same buckets, as rows of a table. */
import type { HistogramCounts } from "../../status.ts";

export interface BucketRow {
  readonly label: string;
  /** Shares of all, 0 to 1. */
  readonly accelerated: number;
  readonly direct: number;
}

/** From the first bucket in which there is something to the last; none when there is nothing. Pure. */
export function histogramRows(accelerated: HistogramCounts, direct: HistogramCounts): BucketRow[] {
  const [fast, slow] = [shares(accelerated), shares(direct)];
  const rows = fast.map((part, bucket) => ({
    label: labelOf(accelerated.boundsSeconds, bucket),
    accelerated: part,
    direct: slow[bucket] ?? 0,
  }));
  const isUsed = (row: BucketRow) => row.accelerated > 0 || row.direct > 0;
  return rows.slice(Math.max(0, rows.findIndex(isUsed)), rows.findLastIndex(isUsed) + 1);
}

function labelOf(boundsSeconds: readonly number[], bucket: number): string {
  const bound = boundsSeconds[bucket];
  if (bound === undefined) return `over ${boundsSeconds.at(-1) ?? 0} s`;
  return bound < 1 ? `${Number((bound * 1e3).toFixed(1))} ms` : `${bound} s`;
}

function shares({ counts }: HistogramCounts): number[] {
  const sum = total(counts);
  return counts.map((count) => (sum === 0 ? 0 : count / sum));
}

function total(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0);
}
