import type { Event } from "./events.ts";
import type { ListenerStatus, PoolStatus, ServerStatus, Status, UpstreamStatus } from "./status.ts";
import {
  duration,
  grouped,
  hitRate,
  medianMs,
  milliseconds,
  poolEnds,
  poolState,
  spent,
} from "./status-words.ts";

/** GET /status as tables for a terminal. */

export type Column<T> = readonly [title: string, align: "left" | "right", cell: (row: T) => string];

const LISTENER_COLUMNS: readonly Column<ListenerStatus>[] = [
  ["LISTENER", "left", (row) => row.name],
  ["ADDRESS", "left", (row) => row.address],
  ["MODE", "left", (row) => row.mode],
  ["ACTIVE", "right", (row) => String(row.active)],
  ["TOTAL", "right", (row) => String(row.total)],
];

const POOL_COLUMNS: readonly Column<PoolStatus>[] = [
  ["UPSTREAM", "left", (row) => row.upstream],
  ["SERVER", "left", poolEnds],
  ["READY", "right", (row) => `${row.halfOpen}/${row.target}`],
  ["RTT", "right", (row) => `${row.rttMs.toFixed(1)} ms`],
  ["HITS", "right", (row) => String(row.hits)],
  ["MISSES", "right", (row) => String(row.misses)],
  ["HIT RATE", "right", hitRate],
  ["REPLAYS", "right", (row) => String(row.replays)],
  ["TAINTED", "right", (row) => String(row.tainted)],
  ["VANISHED", "right", (row) => String(row.vanished)],
  ["REFUSED", "right", (row) => String(row.refused)],
  ["STATE", "left", poolState],
];

const UPSTREAM_COLUMNS: readonly Column<UpstreamStatus>[] = [
  ["UPSTREAM", "left", (row) => row.name],
  ["BALANCE", "left", (row) => row.balance],
  ["QUEUED", "right", (row) => String(row.queued)],
  ["REFUSED", "right", (row) => String(row.refused)],
];

const SERVER_COLUMNS: readonly Column<ServerStatus>[] = [
  ["UPSTREAM", "left", (row) => row.upstream],
  ["SERVER", "left", (row) => row.server],
  ["WEIGHT", "right", (row) => String(row.weight)],
  ["ACTIVE", "right", (row) => String(row.active)],
  ["MAX", "right", (row) => (row.maxConnections === 0 ? "-" : String(row.maxConnections))],
  ["FAILURES", "right", (row) => String(row.failures)],
  ["EJECTIONS", "right", (row) => String(row.ejections)],
  ["STATE", "left", (row) => row.state],
];

const EVENT_COLUMNS: readonly Column<Event>[] = [
  ["RECENTLY", "left", ({ timeMs }) => new Date(timeMs).toISOString().slice(0, 19).replace("T", " ")],
  ["", "left", ({ level }) => level],
  ["", "left", ({ text, times }) => (times > 1 ? `${text} (${times} times)` : text)],
];

/** Events that are shown; GET /status has more. */
const EVENTS_SHOWN = 8;

/** Several lines, ending in a newline. Pure. */
export function formatStatus(status: Status): string {
  const { version, uptimeMs, driver, workers, listeners, pools, saved, events } = status;
  const head = `accelproxy ${version}, up ${duration(uptimeMs)}, ${workers} ${workers === 1 ? "worker" : "workers"} on ${driver}`;
  const savings = `${grouped(saved.roundTrips)} round trips saved, ${spent(saved.seconds)} of waiting`;
  return [
    `${[head, savings, ...firstBytes(status)].join("\n")}\n`,
    table(LISTENER_COLUMNS, listeners),
    table(UPSTREAM_COLUMNS, status.upstreams),
    table(SERVER_COLUMNS, status.servers),
    pools.length === 0 ? "no pools\n" : table(POOL_COLUMNS, pools),
    ...(events.length === 0 ? [] : [table(EVENT_COLUMNS, events.slice(0, EVENTS_SHOWN))]),
  ].join("\n");
}

function firstBytes({ firstByte: { accelerated, direct } }: Status): string[] {
  const [fast, slow] = [medianMs(accelerated), medianMs(direct)];
  const parts = [
    ...(fast === undefined ? [] : [`accelerated ${milliseconds(fast)}`]),
    ...(slow === undefined ? [] : [`ordinary ${milliseconds(slow)}`]),
  ];
  return parts.length === 0 ? [] : [`first byte, median about: ${parts.join(", ")}`];
}

/** Columns with their titles, one line a row, ending in a newline. Pure. */
export function table<T>(columns: readonly Column<T>[], rows: readonly T[]): string {
  const cells = [
    columns.map(([title]) => title),
    ...rows.map((row) => columns.map(([, , cell]) => cell(row))),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => line[index]!.length)));
  const lines = cells.map((line) =>
    line
      .map((text, index) =>
        columns[index]![1] === "left" ? text.padEnd(widths[index]!) : text.padStart(widths[index]!),
      )
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}
