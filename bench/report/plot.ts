/** Plots as SVG, from data and a description: vega-lite without a browser. */
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

/** One style for all plots. White background, so that they can be read where pages are dark. */
const CONFIG = {
  background: "white",
  font: "sans-serif",
  axis: {
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: "normal",
    gridColor: "#e5e5e5",
    labelLimit: 400,
  },
  legend: { labelFontSize: 12, titleFontSize: 12, labelLimit: 400 },
  title: { fontSize: 14, anchor: "start", subtitleFontSize: 12 },
  header: { labelFontSize: 12, titleFontSize: 12 },
} as const;

/** Renders a plot. Rejects when the description makes no sense. */
export async function renderPlot(spec: TopLevelSpec): Promise<string> {
  const compiled = compile({ ...spec, config: CONFIG });
  const view = new vega.View(vega.parse(compiled.spec), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}
