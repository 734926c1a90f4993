/** The report's pages as Markdown. Pure functions of results. */
import { summarize } from "../load/percentiles.ts";
import { groupBy, type Row } from "../measure/compare.ts";
import type { BenchResult } from "../measure/result.ts";
import { formatNumber, markdownTable } from "../measure/table.ts";
import { commandOf } from "./commands.ts";
import { type Loss, lossesOf } from "./losses.ts";
import type { Plot } from "./plots.ts";

const WHY_WE_LOSE = `A connection that is kept open needs no handshake and has its congestion window open already; accelproxy saves the
round trip of a fresh one, and no more. On loopback there is no round trip to save: two SYNs and the calls that make the
socket are then pure cost. The C program of repair does nothing else and is there as the lower bound.`;

/** The page of one benchmark: machine, plots, and a table per case. */
export function resultPage(result: BenchResult, plots: readonly Plot[]): string {
  const parts = [
    `# ${result.name}`,
    `\`${commandOf(result.name, result.quick)}\`. ${describeRun(result)}`,
    ...plots.map(({ file, title }) => `![${title}](${file})`),
    ...[...groupBy(result.rows, (row) => row.case)].map(([name, rows]) => caseSection(name, rows)),
    skippedSection(result),
    sysctlSection(result),
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

/** The first page: where we lose, the headline, and the way to the rest. */
export function indexPage(
  results: readonly BenchResult[],
  plots: ReadonlyMap<BenchResult, readonly Plot[]>,
): string {
  const parts = [
    "# Measured results",
    "Medians; `npm run bench -- NAME` measures them again on your machine, `npm run bench -- report` renders this page.",
    "## Where we lose",
    lossSection(results),
    WHY_WE_LOSE,
    ...results.flatMap((result) => {
      const [plot] = plots.get(result) ?? [];
      return [
        `## ${result.name}`,
        ...(plot === undefined ? [] : [`![${plot.title}](${plot.file})`]),
        `All tables and samples: [${result.name}.md](${result.name}.md), \`bench/results/${result.name}.json\`. ${describeRun(result)}`,
      ];
    }),
  ];
  return `${parts.join("\n\n")}\n`;
}

function lossSection(results: readonly BenchResult[]): string {
  const lines = results.flatMap(({ name, rows }) =>
    [...groupBy(lossesOf(rows), ({ metric, ours }) => `${metric} of ${ours.variant}`).values()].map((group) =>
      lossLine(name, group),
    ),
  );
  if (lines.length === 0) return "In no case was a peer better by more than 2 %.";
  return markdownTable(["what", "worst case", "ours", "better", "by", "cases"], lines);
}

/** One line for all cases of a metric: the one where it is worst, and how many there are. */
function lossLine(name: string, group: readonly Loss[]): string[] {
  const gap = ({ ours, better }: Loss): number =>
    Math.max(ours.median, better.median) / Math.min(ours.median, better.median);
  const worst = group.toSorted((a, b) => gap(b) - gap(a))[0]!;
  const { ours, better, unit } = worst;
  return [
    `${name}: ${worst.metric} (${ours.variant})`,
    worst.case,
    `${formatNumber(ours.median)} ${unit}`,
    `${formatNumber(better.median)} ${unit}, ${better.variant}`,
    `× ${gap(worst).toFixed(2)}`,
    String(group.length),
  ];
}

function describeRun({
  date,
  commit,
  kernel,
  cpu,
  node,
  peers,
  quick,
  durationSeconds,
}: BenchResult): string {
  // "HAProxy http, reuse never" and "HAProxy tcp" are one program.
  const programs = Object.entries(peers).map(([name, version]) => `${name.split(/[ ,]/, 1)[0]} ${version}`);
  const versions = [...new Set(programs)].filter((program) => program !== `Node ${node}`);
  const kind = quick ? "A quick run" : "A full run";
  return (
    `${kind} of ${durationSeconds} s on ${date.slice(0, 10)}, commit ${commit.slice(0, 9)}${commit.endsWith("-dirty") ? " with changes" : ""}, ` +
    `Linux ${kernel}, ${cpu}, Node ${node}${versions.length > 0 ? `; ${versions.join(", ")}` : ""}.`
  );
}

function caseSection(name: string, rows: readonly Row[]): string {
  const byMetric = [...groupBy(rows, ({ metric }) => metric).values()];
  const isDistribution = (group: readonly Row[]): boolean => group.some(({ samples }) => samples.length > 30);
  const columns = byMetric.flatMap((group) => columnsOf(group, isDistribution(group)));
  const variants = [...new Set(rows.map(({ variant }) => variant))];
  const lines = variants.map((variant) => [variant, ...columns.map(({ cell }) => cell(variant))]);
  return `## ${name}\n\n${markdownTable(["", ...columns.map(({ head }) => head)], lines)}`;
}

interface Column {
  readonly head: string;
  readonly cell: (variant: string) => string;
}

function columnsOf(group: readonly Row[], withPercentiles: boolean): Column[] {
  const [first] = group;
  if (first === undefined) return [];
  const find = (variant: string): Row | undefined => group.find((row) => row.variant === variant);
  const title = `${first.metric}, ${first.unit}`;
  const columns: Column[] = [
    {
      head: withPercentiles ? `${title}: p50` : title,
      cell: (variant) => formatNumber(find(variant)?.median),
    },
  ];
  if (withPercentiles) {
    for (const share of ["p90", "p99"] as const) {
      columns.push({
        head: share,
        cell: (variant) => {
          const row = find(variant);
          return formatNumber(row === undefined ? undefined : summarize(row.samples)[share]);
        },
      });
    }
  }
  const baseline = group.find(({ ratioTo }) => ratioTo !== null)?.ratioTo;
  if (baseline) columns.push({ head: `ratio to ${baseline}`, cell: (variant) => ratioCell(find(variant)) });
  return columns;
}

function ratioCell(row: Row | undefined): string {
  if (row?.ratio === null || row?.ratio === undefined) return "–";
  const [low, high] = row.ratioInterval ?? [row.ratio, row.ratio];
  return `${row.ratio.toFixed(3)} (${low.toFixed(3)}–${high.toFixed(3)})`;
}

function skippedSection({ skipped }: BenchResult): string {
  if (skipped.length === 0) return "";
  return `## Skipped\n\n${skipped.map(({ what, why }) => `- ${what}: ${why}`).join("\n")}`;
}

function sysctlSection({ sysctls }: BenchResult): string {
  const lines = Object.entries(sysctls).map(([name, value]) => [`\`${name}\``, value]);
  return `## Kernel parameters\n\n${markdownTable(["parameter", "value"], lines)}`;
}
