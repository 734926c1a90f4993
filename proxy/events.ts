/**
 * What happened lately, for people: the lines of the log from info up, as sentences. It is a log destination like
 * stdout, so that whatever the log says is here too, from every thread, and a quieter `log.level` hides nothing.
 */
import { describe, type Fields } from "./event-words.ts";

export const EVENT_LEVELS = ["info", "warning", "error"] as const;

export interface Event {
  /** Milliseconds since the epoch. */
  readonly timeMs: number;
  readonly level: (typeof EVENT_LEVELS)[number];
  /** A sentence without its full stop. */
  readonly text: string;
  /** How often it came in a row; `timeMs` is of the last time. */
  readonly times: number;
}

export type LineCounts = Readonly<Record<Event["level"], number>>;

const EVENTS_MAX = 50;
const TEXT_MAX = 400;
const WARN = 40;
const ERROR = 50;

export class RecentEvents {
  #newestFirst: readonly Event[] = [];
  #counts: LineCounts = { info: 0, warning: 0, error: 0 };

  /** How many lines there were since the start. */
  get counts(): LineCounts {
    return this.#counts;
  }

  get newestFirst(): readonly Event[] {
    return this.#newestFirst;
  }

  /** One line as pino writes it. */
  write(line: string): void {
    const { level, time: timeMs, msg, ...fields } = JSON.parse(line) as Line;
    const event = { timeMs, level: levelName(level), text: describe(msg, fields).slice(0, TEXT_MAX) };
    this.#counts = { ...this.#counts, [event.level]: this.#counts[event.level] + 1 };
    const [last, ...before] = this.#newestFirst;
    const isSame = last !== undefined && last.text === event.text && last.level === event.level;
    const times = isSame ? last.times + 1 : 1;
    const rest = isSame ? before : this.#newestFirst;
    this.#newestFirst = [{ ...event, times }, ...rest].slice(0, EVENTS_MAX);
  }
}

interface Line extends Fields {
  readonly level: number;
  readonly time: number;
  readonly msg: string;
}

function levelName(level: number): Event["level"] {
  if (level >= ERROR) return "error";
  return level >= WARN ? "warning" : "info";
}
