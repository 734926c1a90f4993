import { formatWithOptions } from "node:util";
import pino from "pino";

/** The log: JSON lines on stdout for programs, readable lines when a person looks at a terminal. */

type LogLevel = pino.LevelWithSilent;

const EVENT_LEVEL = "info";

export interface LogOptions {
  readonly level: LogLevel;
  /** Gets every line from info up as JSON, whatever `level` is. */
  readonly events?: { write(line: string): void };
  /** Readable lines instead of JSON. */
  readonly readable: boolean;
  /** Descriptor that is written to, 1 for stdout. */
  readonly descriptor: number;
}

/**
 * A logger that writes each line before it returns, so that the last one before an exit is not lost. A reader
 * that went away or a full disk silences the log, and never ends the proxy.
 */
export function createLog({ level, events, readable, descriptor }: LogOptions): pino.Logger {
  const destination = pino.destination({ dest: descriptor, sync: true });
  // pino handles EPIPE itself; everything else (ENOSPC, EIO) would be an uncaught exception.
  destination.on("error", () => {});
  const lines = readable
    ? { write: (line: string) => void destination.write(formatLine(line)) }
    : destination;
  if (events === undefined) return pino({ level, base: null }, lines);
  const streams: pino.StreamEntry[] = [{ level: EVENT_LEVEL, stream: events }];
  if (level !== "silent") streams.unshift({ level, stream: lines });
  return pino({ level: loggedLevel(level), base: null }, pino.multistream(streams));
}

/** From which level on lines are made: those for people at least, though the log may leave them out. */
export function loggedLevel(level: LogLevel): LogLevel {
  const isQuieter = level === "silent" || pino.levels.values[level]! > pino.levels.values[EVENT_LEVEL]!;
  return isQuieter ? EVENT_LEVEL : level;
}

/**
 * One JSON line of pino as people read it: time, level, component, message, then the fields as key=value; the
 * stack of an error follows on lines of its own. What is no JSON object comes back as it is. Ends in a newline.
 */
export function formatLine(line: string): string {
  const record = parseRecord(line);
  if (record === undefined) return line;
  const { time, level, component, msg, err, ...fields } = record;
  const parts = [shortTime(time), levelName(level).padEnd(5)];
  if (component !== undefined) parts.push(`${plain(component)}:`);
  if (msg !== undefined) parts.push(plain(msg));
  for (const [key, value] of Object.entries(fields)) parts.push(`${clean(key)}=${shown(value)}`);
  const { message, stack } = errorParts(err);
  if (message !== undefined) parts.push(`err=${shown(message)}`);
  return `${[parts.join(" "), ...stack].join("\n")}\n`;
}

type Fields = Readonly<Record<string, unknown>>;

function parseRecord(line: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Fields)
      : undefined;
  } catch {
    return undefined;
  }
}

/** 05:31:36.123, of the local time zone; the day is known to who sits there. */
function shortTime(time: unknown): string {
  const date = new Date(typeof time === "number" || typeof time === "string" ? time : Number.NaN);
  if (Number.isNaN(date.getTime())) return "--:--:--.---";
  const two = (value: number) => String(value).padStart(2, "0");
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${clock}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

function levelName(level: unknown): string {
  const label = typeof level === "number" ? pino.levels.labels[level] : undefined;
  return (label ?? plain(level)).toUpperCase();
}

function plain(value: unknown): string {
  return typeof value === "string" ? clean(value) : shown(value);
}

/** A word as it is, anything else in quotes or as a compact object. */
function shown(value: unknown): string {
  if (typeof value === "string") return /^[^\s"=\p{C}]+$/u.test(value) ? value : JSON.stringify(clean(value));
  return clean(formatWithOptions({ breakLength: Number.POSITIVE_INFINITY, compact: true }, "%O", value));
}

/** Control characters would let a peer's bytes move the cursor of the terminal. */
function clean(text: string): string {
  return text.replace(/\p{Cc}+/gu, " ");
}

function errorParts(err: unknown): { message?: string; stack: string[] } {
  if (err === undefined) return { stack: [] };
  if (typeof err !== "object" || err === null) return { message: String(err), stack: [] };
  const { message, stack, code } = err as Fields;
  const lines = typeof stack === "string" ? stack.split("\n").map((text) => `    ${clean(text)}`) : [];
  const text = typeof message === "string" ? message : JSON.stringify(err);
  return { message: typeof code === "string" ? `${code} ${text}` : text, stack: lines };
}
