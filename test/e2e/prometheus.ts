/** What Prometheus makes of a proxy's metrics: promtool evaluates rules and queries over what was scraped. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../docs/documents.ts";

export const ALERTS = "docs/operating/alerts.yml";
/** Longer than the longest window and the longest `for` of the rules together. */
const CONTINUED_MIN = 40;

/** One answer of GET /metrics. */
export class Scrape {
  readonly atMs = performance.now();
  readonly #types = new Map<string, string>();
  /** By name and labels as they were written. */
  readonly samples = new Map<string, number>();

  constructor(text: string) {
    for (const line of text.split("\n")) {
      const [, name, type] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
      if (name !== undefined && type !== undefined) this.#types.set(name, type);
      const [, series, value] = /^([a-z_]+(?:\{.*\})?) (\S+)$/.exec(line) ?? [];
      if (series !== undefined) this.samples.set(series, Number(value));
    }
  }

  /** "NAME TYPE" of each metric. */
  get families(): readonly string[] {
    return [...this.#types].map(([name, type]) => `${name} ${type}`);
  }

  isGauge(series: string): boolean {
    return this.#types.get(series.replace(/\{.*/, "")) === "gauge";
  }

  /** The sum of all samples whose series match. */
  sum(series: RegExp): number {
    return [...this.samples].reduce((sum, [key, value]) => sum + (series.test(key) ? value : 0), 0);
  }
}

interface Series {
  readonly series: string;
  readonly values: string;
}

/**
 * The series as Prometheus would have them had the proxy gone on as between two scrapes: gauges stay, counters go on
 * growing as fast.
 */
export function continued(before: Scrape, after: Scrape, instance: string): Series[] {
  const steps = Math.ceil((CONTINUED_MIN * 60_000) / intervalOf(before, after));
  return [...after.samples].map(([series, value]) => {
    const [name, labels = ""] = series.replace("}", "").split("{");
    const all = [labels, `instance="${instance}"`, `job="accelproxy"`]
      .filter((part) => part !== "")
      .join(",");
    const first = before.samples.get(series) ?? 0;
    const values = after.isGauge(series) ? `${value}+0x${steps}` : `${first}+${value - first}x${steps}`;
    return { series: `${name}{${all}}`, values };
  });
}

export function intervalOf(before: Scrape, after: Scrape): number {
  return Math.round(after.atMs - before.atMs);
}

export interface Question {
  readonly expr: string;
  /** Of the answer, labels as Prometheus writes them: `{upstream="o"}`, all with the value 1. */
  readonly is: readonly string[];
}

/** Asks what the rules and queries say at the end. Returns promtool's complaints, empty when all is as it should be. */
export function evaluate(
  series: readonly Series[],
  intervalMs: number,
  questions: readonly Question[],
): string {
  const folder = mkdtempSync(join(tmpdir(), "accelproxy-promtool-"));
  try {
    const file = join(folder, "test.yml"); // JSON is YAML
    const asked = questions.map(({ expr, is }) => ({
      expr,
      eval_time: `${CONTINUED_MIN - 1}m`,
      exp_samples: is.map((labels) => ({ labels, value: 1 })),
    }));
    const test = { interval: `${intervalMs}ms`, input_series: series, promql_expr_test: asked };
    writeFileSync(
      file,
      JSON.stringify({ rule_files: [join(root, ALERTS)], evaluation_interval: "15s", tests: [test] }),
    );
    const { status, stdout, stderr } = spawnSync("promtool", ["test", "rules", file], { encoding: "utf8" });
    return status === 0 ? "" : `${stdout}${stderr}` || `promtool ended with ${status}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Firing alerts by name and by what they are about. */
export const FIRING = `group by (alertname, listener, upstream) (ALERTS{alertstate="firing"})`;
