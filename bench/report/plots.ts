/** Which plots the report has, from the rows of results alone. */
import type { TopLevelSpec } from "vega-lite";
import { percentile } from "../load/percentiles.ts";
import type { Row } from "../measure/compare.ts";
import { SOAK } from "./commands.ts";
import { colourScale } from "./variants.ts";

export interface Plot {
  /** Without its folder: NAME.svg. */
  readonly file: string;
  readonly title: string;
  readonly spec: TopLevelSpec;
}

const CURVE_SHARES = [
  ...Array.from({ length: 100 }, (_, index) => index / 100),
  0.991,
  0.993,
  0.995,
  0.997,
  0.999,
  1,
];

const isSteady = ({ parameters }: Row): boolean => parameters.pattern === "steady" && parameters.loss === 0;

/** The plots of one benchmark; none where its rows are missing. */
export function plotsOf(name: string, rows: readonly Row[]): Plot[] {
  switch (name) {
    case "latency":
      return [...headline(rows), ...curves(rows)];
    case "rate":
      return cpuBars("rate-cpu", "CPU time of the proxy for each connection", "µs", rows);
    case "throughput":
      return cpuBars("throughput-cpu", "CPU time of the proxy for each GiB", "s", rows);
    case SOAK:
      return memoryOverTime(rows);
    default:
      return [];
  }
}

/** Median first byte over RTT, in round trips, so that one scale serves all distances. */
function headline(rows: readonly Row[]): Plot[] {
  const chosen = rows.filter(
    (row) => row.metric === "first byte" && row.parameters.sizeBytes === 1_000 && isSteady(row),
  );
  if (chosen.length === 0) return [];
  const values = chosen.map(({ variant, median, parameters }) => ({
    variant,
    rtt: `RTT ${parameters.rttMs} ms`,
    rttMs: Number(parameters.rttMs),
    trips: median / Number(parameters.rttMs),
    label: median >= 100 ? median.toFixed(0) : median.toFixed(1),
  }));
  const scale = colourScale(values.map(({ variant }) => variant));
  const rtts = [...new Map(values.map(({ rtt, rttMs }) => [rtt, rttMs]))].sort((a, b) => a[1] - b[1]);
  const title = "First byte of a fresh connection";
  const x = { field: "variant", type: "nominal", sort: scale.domain, axis: null } as const;
  const y = { field: "trips", type: "quantitative", title: "median, in round trips" } as const;
  return [
    {
      file: "latency-first-byte.svg",
      title,
      spec: {
        title: {
          text: title,
          subtitle: "median from when the request was due; figures in ms; lower is better",
        },
        data: { values },
        facet: {
          column: { field: "rtt", type: "nominal", sort: rtts.map(([rtt]) => rtt), title: null },
        },
        spec: {
          width: 150,
          height: 240,
          layer: [
            {
              mark: "bar",
              encoding: {
                x,
                y,
                color: { field: "variant", type: "nominal", sort: scale.domain, scale, title: null },
              },
            },
            {
              mark: { type: "text", angle: 270, align: "left", dx: 4, fontSize: 10 },
              encoding: { x, y, text: { field: "label" } },
            },
          ],
        },
        spacing: 12,
      },
    },
  ];
}

/** The whole distribution where the distance is 40 ms: one plot for each size and pattern. */
function curves(rows: readonly Row[]): Plot[] {
  const chosen = rows.filter(
    ({ metric, parameters, samples }) =>
      metric === (parameters.sizeBytes === 1_000 ? "first byte" : "last byte") &&
      parameters.rttMs === 40 &&
      samples.length > 1,
  );
  const cases = [...new Set(chosen.map((row) => row.case))];
  return cases.map((name) => {
    const own = chosen.filter((row) => row.case === name);
    const values = own.flatMap(({ variant, samples }) => {
      const sorted = samples.toSorted((a, b) => a - b);
      return CURVE_SHARES.map((share) => ({
        variant,
        share: 100 * share,
        ms: percentile(sorted, share),
      }));
    });
    const scale = colourScale(own.map(({ variant }) => variant));
    const title = `${own[0]?.metric === "last byte" ? "Last" : "First"} byte: ${name}`;
    return {
      file: `latency-curve-${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}.svg`,
      title,
      spec: {
        title,
        width: 560,
        height: 260,
        data: { values },
        mark: { type: "line", interpolate: "step-after", strokeWidth: 1.8 },
        encoding: {
          x: { field: "share", type: "quantitative", title: "share of requests, %" },
          y: {
            field: "ms",
            type: "quantitative",
            scale: { type: "log", nice: false },
            title: "ms, logarithmic",
          },
          color: { field: "variant", type: "nominal", sort: scale.domain, scale, title: null },
        },
      },
    };
  });
}

/** Resident memory of each driver's proxy through the soak. */
function memoryOverTime(rows: readonly Row[]): Plot[] {
  const chosen = rows.filter(({ metric }) => metric === "resident memory");
  if (chosen.length === 0) return [];
  const values = chosen.flatMap(({ variant, samples, parameters }) =>
    samples.map((mib, index) => ({
      variant,
      mib,
      minutes: ((index + 1) * Number(parameters.intervalSeconds)) / 60,
    })),
  );
  const title = `Resident memory of the proxy, ${chosen[0]?.case}`;
  return [
    {
      file: "soak-engine-memory.svg",
      title,
      spec: {
        title,
        width: 560,
        height: 240,
        data: { values },
        mark: { type: "line", strokeWidth: 1.8 },
        encoding: {
          x: { field: "minutes", type: "quantitative", title: "minutes" },
          y: { field: "mib", type: "quantitative", scale: { zero: true }, title: "MiB" },
          color: { field: "variant", type: "nominal", title: "driver" },
        },
      },
    },
  ];
}

/** User and system time stacked, side by side for each load. */
function cpuBars(file: string, title: string, unit: string, rows: readonly Row[]): Plot[] {
  const chosen = rows.filter(({ metric }) => metric === "CPU, user" || metric === "CPU, system");
  if (chosen.length === 0) return [];
  const values = chosen.map(({ case: name, variant, metric, median }) => ({
    variant,
    kind: metric === "CPU, user" ? "user" : "system",
    order: metric === "CPU, user" ? 0 : 1,
    value: median,
    load: name.replace(/ on loopback$/, ""),
  }));
  const variants = colourScale(values.map(({ variant }) => variant)).domain;
  const loads = [...new Set(values.map(({ load }) => load))];
  return [
    {
      file: `${file}.svg`,
      title,
      spec: {
        title: {
          text: title,
          subtitle: "median; the proxy's process alone, all its threads; lower is better",
        },
        data: { values },
        facet: { row: { field: "load", type: "nominal", sort: loads, title: null } },
        spec: {
          width: 480,
          height: { step: 18 },
          mark: "bar",
          encoding: {
            y: { field: "variant", type: "nominal", sort: variants, title: null },
            x: { field: "value", type: "quantitative", title: unit },
            order: { field: "order", type: "quantitative" },
            color: {
              field: "kind",
              type: "nominal",
              sort: ["user", "system"],
              scale: { domain: ["user", "system"], range: ["#d62728", "#1f77b4"] },
              title: null,
            },
          },
        },
      },
    },
  ];
}
