import { bad, good, type Parsed, show } from "./problems.ts";

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** What a duration may be, both ends included, in milliseconds. */
export type DurationRange = { readonly minMs: number; readonly maxMs: number };

/** Reads `250ms`, `5s`, `2m` or `1h` (whole numbers, one unit) into milliseconds. */
export function parseDuration(input: unknown, range: DurationRange): Parsed<number> {
  if (typeof input === "number") return parseBareNumber(input);
  if (typeof input !== "string")
    return bad(`${show(input)} is not a duration`, "write one such as 250ms, 5s, 2m or 1h");
  const parts = /^(-?)(\d+)(\.\d+)?\s*([A-Za-zµ]*)$/.exec(input.trim());
  if (parts === null) return bad(`${show(input)} is not a duration`, "write one such as 250ms, 5s, 2m or 1h");
  const [, minus, whole, fraction, unit] = parts;
  if (unit === "") return parseBareNumber(Number(input));
  const factor = unitMs[unit as keyof typeof unitMs];
  if (factor === undefined || !Object.hasOwn(unitMs, unit!)) {
    return bad(
      `${show(input)} has the unknown unit "${unit}"`,
      "the units are ms, s, m and h, for example 250ms or 5s",
    );
  }
  if (minus !== "") return bad(`${show(input)} is negative`, `write ${formatDuration(range.minMs)} or more`);
  const ms = Number(`${whole}${fraction ?? ""}`) * factor;
  if (ms < range.minMs)
    return bad(`${show(input)} is too short`, `write ${formatDuration(range.minMs)} or more`);
  if (ms > range.maxMs)
    return bad(`${show(input)} is too long`, `write ${formatDuration(range.maxMs)} or less`);
  if (fraction !== undefined) {
    return bad(
      `${show(input)} is not a whole number of ${unit}`,
      `write ${formatDuration(Math.max(1, Math.round(ms)))}`,
    );
  }
  if (input !== `${whole}${unit}`) return bad(`${show(input)} contains spaces`, `write ${whole}${unit}`);
  return good(ms);
}

function parseBareNumber(value: number): Parsed<number> {
  if (!Number.isFinite(value))
    return bad(`${value} is not a duration`, "write one such as 250ms, 5s, 2m or 1h");
  if (value < 0) return bad(`${value} is negative`, "write a duration such as 250ms, 5s, 2m or 1h");
  const unit = Number.isInteger(value)
    ? `, for example ${value}ms or ${value}s`
    : ", for example 250ms or 5s";
  return bad(`${value} has no unit`, `add ms, s, m or h${unit}`);
}

/** Milliseconds as the shortest text people use: 119s, but 2m; never a fraction. The reverse of parseDuration. */
export function formatDuration(ms: number): string {
  if (ms !== 0 && ms % unitMs.h === 0 && ms >= 2 * unitMs.h) return `${ms / unitMs.h}h`;
  if (ms !== 0 && ms % unitMs.m === 0 && ms >= 2 * unitMs.m) return `${ms / unitMs.m}m`;
  return ms !== 0 && ms % unitMs.s === 0 ? `${ms / unitMs.s}s` : `${ms}ms`;
}
