/** Draws two flows side by side: as SVG to scale, and as text. Pure functions. */
import type { Arrow, Flow } from "./flows.ts";

const WIDTH = 940;
const PANEL_WIDTH = WIDTH / 2;
const NEAR_X = 92;
const FAR_X = 378;
const EARLY_TOP = 112;
const ZERO_TOP = 250;
const PX_PER_MS = 4.6;
const BOTTOM_MARGIN = 86;
const CLOSE_MS = 3;
const TIME_HEIGHT = 13;
const TEXT_COLUMN = 54;

const ms = (value: number): string => value.toFixed(1).replace("-", "\u2212");

/** What a flow is, in one line each. */
function titles(flow: Flow): readonly [string, string] {
  if (!flow.isAccelerated) return ["ordinary connection", "handshake first, then the request"];
  const openedS = (-flow.openedMs / 1e3).toFixed(1);
  return [
    "through accelproxy",
    `half-open since ${openedS} s, kept by ${flow.syns} SYNs, the last one shown`,
  ];
}

/** Both flows with one scale of time; the half-open's last refresh above, at a time of its own. */
export function drawSvg(direct: Flow, accelerated: Flow): string {
  const endMs = Math.max(direct.firstByteMs, accelerated.firstByteMs);
  const height = Math.ceil(ZERO_TOP + endMs * PX_PER_MS + BOTTOM_MARGIN);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12" role="img">
<title>First byte after ${ms(direct.firstByteMs)} ms over an ordinary connection, after ${ms(accelerated.firstByteMs)} ms through accelproxy</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="#345"/></marker></defs>
<rect width="${WIDTH}" height="${height}" fill="#fff"/>
${panel(direct, 0, height)}
${panel(accelerated, PANEL_WIDTH, height)}
</svg>
`;
}

function panel(flow: Flow, left: number, height: number): string {
  const [title, subtitle] = titles(flow);
  const earlyMs = Math.min(...flow.arrows.filter(({ isEarly }) => isEarly).map(({ nearMs }) => nearMs));
  const y = (arrow: Arrow, atMs: number): number =>
    arrow.isEarly ? EARLY_TOP + (atMs - earlyMs) * (PX_PER_MS / 2) : ZERO_TOP + atMs * PX_PER_MS;
  const middle = (NEAR_X + FAR_X) / 2;
  const bottom = height - BOTTOM_MARGIN + 12;
  const parts = [
    text(middle, 26, title, `font-size="17" font-weight="bold" text-anchor="middle"`),
    text(middle, 46, subtitle, `fill="#567" text-anchor="middle"`),
    text(NEAR_X, 78, "near", `font-weight="bold" text-anchor="middle"`),
    text(FAR_X, 78, "far", `font-weight="bold" text-anchor="middle"`),
    ...[NEAR_X, FAR_X].map((x) => line(x, 88, x, bottom, `stroke="#9ab" stroke-width="2"`)),
    line(NEAR_X - 70, ZERO_TOP, FAR_X + 70, ZERO_TOP, `stroke="#c60" stroke-dasharray="4 4"`),
    text(middle, ZERO_TOP - 8, "connection wanted", `fill="#c60" text-anchor="middle"`),
    ...merged(flow.arrows).flatMap((arrow) => drawArrow(arrow, y)),
    ...drawTimes(flow.arrows, y),
    text(
      middle,
      bottom + 30,
      `first byte after ${ms(flow.firstByteMs)} ms`,
      `font-size="16" font-weight="bold" fill="${flow.isAccelerated ? "#080" : "#345"}" text-anchor="middle"`,
    ),
    text(
      middle,
      bottom + 50,
      "captured at the network interfaces of both hosts",
      `fill="#567" text-anchor="middle"`,
    ),
  ];
  return `<g transform="translate(${left} 0)">\n${parts.join("\n")}\n</g>`;
}

/** Packets that follow each other too closely for two lines become one, at the time of the last. */
function merged(arrows: readonly Arrow[]): Arrow[] {
  const result: Arrow[] = [];
  for (const arrow of arrows) {
    const before = result.at(-1);
    const isClose =
      before?.toFar === arrow.toFar &&
      before.isEarly === arrow.isEarly &&
      arrow.nearMs - before.nearMs < CLOSE_MS;
    if (isClose) result[result.length - 1] = { ...arrow, label: `${before.label}, then ${arrow.label}` };
    else result.push(arrow);
  }
  return result;
}

function drawArrow(arrow: Arrow, y: (arrow: Arrow, atMs: number) => number): string[] {
  const [nearY, farY] = [y(arrow, arrow.nearMs), y(arrow, arrow.farMs)];
  const [from, to] = arrow.toFar ? [nearY, farY] : [farY, nearY];
  const [fromX, toX] = arrow.toFar ? [NEAR_X, FAR_X] : [FAR_X, NEAR_X];
  const tilt = (Math.atan2(farY - nearY, FAR_X - NEAR_X) * 180) / Math.PI;
  const [x, middle] = [(NEAR_X + FAR_X) / 2, (nearY + farY) / 2 - 5];
  return [
    line(fromX, from, toX, to, `stroke="#345" stroke-width="1.5" marker-end="url(#tip)"`),
    text(
      x,
      middle,
      arrow.label,
      `text-anchor="middle" transform="rotate(${tilt.toFixed(1)} ${x} ${middle.toFixed(1)})"`,
    ),
  ];
}

/** The times at both ends; of those too close to be read, the first. */
function drawTimes(arrows: readonly Arrow[], y: (arrow: Arrow, atMs: number) => number): string[] {
  const column = (x: number, anchor: string, timeOf: (arrow: Arrow) => number): string[] => {
    let lastY = Number.NEGATIVE_INFINITY;
    return arrows.flatMap((arrow) => {
      const at = y(arrow, timeOf(arrow)) + 4;
      if (at - lastY < TIME_HEIGHT) return [];
      lastY = at;
      return text(x, at, ms(timeOf(arrow)), `fill="#567" text-anchor="${anchor}"`);
    });
  };
  return [
    ...column(NEAR_X - 8, "end", ({ nearMs }) => nearMs),
    ...column(FAR_X + 8, "start", ({ farMs }) => farMs),
  ];
}

function text(x: number, y: number, content: string, attributes: string): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x="${x}" y="${y.toFixed(1)}" ${attributes}>${escaped}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, attributes: string): string {
  return `<line x1="${x1}" y1="${y1.toFixed(1)}" x2="${x2}" y2="${y2.toFixed(1)}" ${attributes}/>`;
}

/** Both flows in columns; a row per packet, with its time at the near and at the far host. */
export function drawText(direct: Flow, accelerated: Flow): string {
  const [left, right] = [textRows(direct), textRows(accelerated)];
  // Zero is the same line in both columns.
  const [leftEarly, rightEarly] = [early(direct), early(accelerated)];
  const shift = Math.max(leftEarly, rightEarly);
  const pad = (rows: readonly string[], earlyRows: number): readonly string[] => [
    ...rows.slice(0, HEAD_ROWS),
    ...Array.from({ length: shift - earlyRows }, () => ""),
    ...rows.slice(HEAD_ROWS),
  ];
  const [a, b] = [pad(left, leftEarly), pad(right, rightEarly)];
  return Array.from({ length: Math.max(a.length, b.length) }, (_, row) =>
    `${(a[row] ?? "").padEnd(TEXT_COLUMN)}${b[row] ?? ""}`.trimEnd(),
  ).join("\n");
}

const HEAD_ROWS = 4;
const TIME_WIDTH = 7;
const SHAFT_WIDTH = 34;
const early = ({ arrows }: Flow): number => arrows.filter(({ isEarly }) => isEarly).length;

function textRows(flow: Flow): string[] {
  const [title, subtitle] = titles(flow);
  const packetRow = ({ label, toFar, nearMs, farMs }: Arrow): string => {
    const shaft = ` ${label} `.padStart((SHAFT_WIDTH + label.length) >> 1, "─").padEnd(SHAFT_WIDTH - 1, "─");
    const arrow = toFar ? `${shaft}▶` : `◀${shaft}`;
    return `${ms(nearMs).padStart(TIME_WIDTH)} ${arrow} ${ms(farMs)}`;
  };
  const isEarly = (arrow: Arrow): boolean => arrow.isEarly;
  return [
    title,
    subtitle,
    "",
    `${"near".padStart(TIME_WIDTH)} ${"".padEnd(SHAFT_WIDTH)} far   (ms)`,
    ...flow.arrows.filter(isEarly).map(packetRow),
    `${"".padStart(TIME_WIDTH)} ┄┄┄┄┄┄┄┄ connection wanted ┄┄┄┄┄┄┄`,
    ...flow.arrows.filter((arrow) => !isEarly(arrow)).map(packetRow),
    `${"".padStart(TIME_WIDTH)} first byte after ${ms(flow.firstByteMs)} ms`,
  ];
}
