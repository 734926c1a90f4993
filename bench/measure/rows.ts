import { summarize } from "../load/percentiles.ts";
import { groupBy, type Row } from "./compare.ts";
import { formatNumber, formatTable } from "./table.ts";

/**
 * Rows as text: a table per case, a line per variant. The case's first metric is shown with its percentiles and
 * its ratio's interval, the others by median and ratio.
 */
export function formatRows(rows: readonly Row[]): string {
  return [...groupBy(rows, (row) => row.case)].map(([name, group]) => tableOf(name, group)).join("\n\n");
}

function tableOf(name: string, rows: readonly Row[]): string {
  const metrics = [...groupBy(rows, ({ metric }) => metric).values()];
  const head = [name, ...metrics.flatMap(headOf)];
  const lines = [...groupBy(rows, ({ variant }) => variant)].map(([variant, own]) => [
    variant,
    ...metrics.flatMap((group, index) => {
      const row = own.find(({ metric }) => metric === group[0]?.metric);
      return cellsOf(row, index === 0, isCompared(group));
    }),
  ]);
  return formatTable(head, lines);
}

function headOf(group: readonly Row[], index: number): string[] {
  const [first] = group;
  if (first === undefined) return [];
  const title = first.metric.endsWith(first.unit) ? first.metric : `${first.metric}, ${first.unit}`;
  if (index > 0) return isCompared(group) ? [title, "ratio"] : [title];
  return isCompared(group)
    ? [`${title}: p50`, "p90", "p99", "ratio", "interval"]
    : [`${title}: p50`, "p90", "p99"];
}

function cellsOf(row: Row | undefined, isFirst: boolean, compared: boolean): string[] {
  const ratio = row?.ratio?.toFixed(3) ?? "–";
  const cells = [formatNumber(row?.median)];
  if (isFirst) {
    const summary = row === undefined ? undefined : summarize(row.samples);
    cells.push(formatNumber(summary?.p90), formatNumber(summary?.p99));
  }
  if (compared) cells.push(ratio);
  if (compared && isFirst) cells.push(row?.ratioInterval?.map((value) => value.toFixed(3)).join("–") ?? "–");
  return cells;
}

function isCompared(group: readonly Row[]): boolean {
  return group.some(({ ratio }) => ratio !== null);
}
