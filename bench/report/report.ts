/** Renders the latest results as Markdown and SVG under docs/results/, from their JSON alone. */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BENCHMARK_NAMES } from "../arguments.ts";
import { type BenchResult, readResult } from "../measure/result.ts";
import { root } from "../root.ts";
import { SOAK } from "./commands.ts";
import { indexPage, resultPage } from "./pages.ts";
import { renderPlot } from "./plot.ts";
import { type Plot, plotsOf } from "./plots.ts";

/**
 * Writes the report and returns the files written, from the repository's root. Plots of earlier reports go. Throws
 * when there is no result at all.
 */
export async function writeReport(
  from = join(root, "bench/results"),
  to = join(root, "docs/results"),
): Promise<string[]> {
  const results = [...BENCHMARK_NAMES, SOAK]
    .map((name) => join(from, `${name}.json`))
    .filter((file) => existsSync(file))
    .map(readResult);
  if (results.length === 0) throw new Error(`no results in ${from}: run npm run bench -- all`);
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(to)) if (name.endsWith(".svg")) rmSync(join(to, name));
  const written: string[] = [];
  const write = (name: string, text: string): void => {
    writeFileSync(join(to, name), text);
    written.push(join(to, name));
  };
  const plots = new Map<BenchResult, readonly Plot[]>();
  for (const result of results) {
    const own = plotsOf(result.name, result.rows);
    plots.set(result, own);
    for (const { file, spec } of own) write(file, await renderPlot(spec));
    write(`${result.name}.md`, resultPage(result, own));
  }
  write("README.md", indexPage(results, plots));
  return written;
}
