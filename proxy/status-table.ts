import type { ListenerStatus, PoolStatus, ServerStatus, Status, UpstreamStatus } from "./status.ts";

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
  ["SERVER", "left", (row) => row.server],
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

/** Several lines, ending in a newline. Pure. */
export function formatStatus(status: Status): string {
  const { version, uptimeMs, driver, workers } = status;
  const head = `accelproxy ${version}, up ${formatUptime(uptimeMs)}, ${workers} ${workers === 1 ? "worker" : "workers"} on ${driver}`;
  const pools = status.pools.length === 0 ? "no pools\n" : table(POOL_COLUMNS, status.pools);
  const upstreams = table(UPSTREAM_COLUMNS, status.upstreams);
  const servers = table(SERVER_COLUMNS, status.servers);
  return `${head}\n\n${table(LISTENER_COLUMNS, status.listeners)}\n${upstreams}\n${servers}\n${pools}`;
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

function hitRate({ hits, misses }: PoolStatus): string {
  return hits + misses === 0 ? "-" : `${((100 * hits) / (hits + misses)).toFixed(1)} %`;
}

function poolState({ cookies, paused }: PoolStatus): string {
  const words = [...(paused ? ["paused"] : []), ...(cookies ? ["cookies"] : [])];
  return words.length === 0 ? "ok" : words.join(", ");
}

/** The two largest units: 3d 4h, 2m 5s, 7s. */
function formatUptime(uptimeMs: number): string {
  const seconds = Math.floor(uptimeMs / 1000);
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0s";
  return parts
    .slice(first, first + 2)
    .map(([count, unit]) => `${count}${unit}`)
    .join(" ");
}
