/** Where a peer is better than we are, and where nothing can be said: what a reader should see first. */
import { groupBy, type Row } from "../measure/compare.ts";
import { isOurs } from "./variants.ts";

export interface Loss {
  readonly case: string;
  readonly metric: string;
  readonly unit: string;
  readonly ours: Row;
  readonly better: Row;
}

/** Metrics of which more is better; of all others less is. */
const MORE_IS_BETTER = new Set(["connections per second", "throughput"]);
/** What a user chooses by; the parts of a sum and counts that are all zero are not among it. */
const JUDGED = new Set([
  "first byte",
  "last byte",
  "connections per second",
  "throughput",
  "CPU, all",
  "CPU",
]);
/** Differences below this share are within what two runs differ by. */
const NOTICEABLE = 0.02;

/** Every case and metric in which another variant's median is noticeably better than ours, with the best such one. */
export function lossesOf(rows: readonly Row[]): Loss[] {
  const judged = rows.filter(({ metric }) => JUDGED.has(metric));
  return [...groupBy(judged, (row) => `${row.case} ${row.metric}`).values()].flatMap((group) => {
    return group.filter(isOursRow).flatMap((ours): Loss[] => {
      const others = group.filter(isPeer).toSorted((a, b) => better(a, b));
      const [best] = others;
      if (best === undefined || advantage(best, ours) <= NOTICEABLE) return [];
      const { case: name, metric, unit } = ours;
      return [{ case: name, metric, unit, ours, better: best }];
    });
  });
}

const isOursRow = ({ variant }: Row): boolean => isOurs(variant);

/**
 * Where CPU time and rates are compared, "direct" is what a proxy stands in front of: more than nothing is the price
 * of any. For latency it is what a user has without one.
 */
function isPeer({ variant, metric }: Row): boolean {
  if (isOurs(variant)) return false;
  return variant !== "direct" || metric === "first byte" || metric === "last byte";
}

/** Negative when `a` is the better one. */
function better(a: Row, b: Row): number {
  return MORE_IS_BETTER.has(a.metric) ? b.median - a.median : a.median - b.median;
}

/** By how much `a` is better than `b`, as a share of b; negative when it is worse. */
function advantage(a: Row, b: Row): number {
  return MORE_IS_BETTER.has(a.metric) ? a.median / b.median - 1 : 1 - a.median / b.median;
}
