/** What a running proxy says about itself: the shapes behind GET /status, GET /metrics and GET /readyz. */
import type { Listener } from "../config/schema.ts";
import type { Policy } from "./balance/policies.ts";
import type { ServerCondition } from "./balance/server-state.ts";
import type { Event, LineCounts } from "./events.ts";

export const PATHS = ["accelerated", "direct", "replayed", "failed"] as const;
/** How a session reached its upstream; counted once, when it ends. */
export type ConnectionPath = (typeof PATHS)[number];

export const POOL_EVENTS = [
  "opened",
  "leased",
  "refreshed",
  "tainted",
  "vanished",
  "released",
  "refused",
  "cookie",
] as const;
export type PoolEvent = (typeof POOL_EVENTS)[number];

export interface ListenerStatus {
  readonly name: string;
  /** "IP:PORT" or "[V6]:PORT" as bound. */
  readonly address: string;
  readonly mode: Listener["mode"];
  /** Sessions now, and since the start. */
  readonly active: number;
  readonly total: number;
}

export interface PoolStatus {
  readonly upstream: string;
  readonly server: string;
  /** The address that the server sees, where that is a client's. */
  readonly client?: string;
  readonly halfOpen: number;
  readonly target: number;
  readonly rttMs: number;
  readonly cookies: boolean;
  readonly paused: boolean;
  readonly hits: number;
  readonly misses: number;
  readonly replays: number;
  readonly tainted: number;
  readonly vanished: number;
  readonly refused: number;
}

export interface UpstreamStatus {
  readonly name: string;
  readonly balance: Policy;
  /** Sessions in line for a place at any of its servers, now. */
  readonly queued: number;
  /** Sessions that found the line too long, since the start. */
  readonly refused: number;
}

export interface ServerStatus {
  readonly upstream: string;
  readonly server: string;
  readonly state: ServerCondition;
  readonly weight: number;
  /** Sessions now, and how many there may be; 0: no limit. */
  readonly active: number;
  readonly maxConnections: number;
  /** Connects that failed, and ejections that followed, since the start. */
  readonly failures: number;
  readonly ejections: number;
}

/** GET /status. */
export interface Status {
  readonly version: string;
  readonly uptimeMs: number;
  readonly driver: string;
  readonly workers: number;
  readonly listeners: readonly ListenerStatus[];
  readonly pools: readonly PoolStatus[];
  readonly upstreams: readonly UpstreamStatus[];
  readonly servers: readonly ServerStatus[];
  readonly saved: Saved;
  /** Accelerated against direct sessions, from going to the upstream to its first byte. */
  readonly firstByte: Readonly<Record<"accelerated" | "direct", HistogramCounts>>;
  /** What the log said lately from info up, newest first. */
  readonly events: readonly Event[];
}

/** What half-opens saved since the start: a round trip each that brought its session to the upstream. */
export interface Saved {
  readonly roundTrips: number;
  /** Those round trips, as long as the pool had measured them then. */
  readonly seconds: number;
}

/** GET /readyz: ready when there are no reasons against it, each a sentence for people. */
export interface Readiness {
  readonly reasons: readonly string[];
}

/** Observations per bucket (not cumulative); one more count than bounds, the last for what is above. */
export interface HistogramCounts {
  readonly boundsSeconds: readonly number[];
  readonly counts: readonly number[];
  readonly sumSeconds: number;
}

export interface PoolMetrics {
  readonly upstream: string;
  readonly server: string;
  readonly halfOpen: number;
  readonly target: number;
  /** The configuration's, and what is left of it since the upstream dropped SYNs. */
  readonly max: number;
  readonly ceiling: number;
  readonly isPaused: boolean;
  readonly isOnCookies: boolean;
  /** SYNs sent, repetitions included, and how many there may be in a second. */
  readonly syns: number;
  readonly maxSynRate: number;
  readonly events: Readonly<Record<PoolEvent, number>>;
}

/** What GET /metrics is made of; counters since the start, exact sums over workers. */
export interface MetricsSnapshot {
  readonly connections: readonly {
    readonly listener: string;
    readonly upstream: string;
    readonly path: ConnectionPath;
    readonly count: number;
  }[];
  readonly saved: readonly (Saved & { readonly listener: string; readonly upstream: string })[];
  readonly listeners: readonly {
    readonly listener: string;
    readonly active: number;
    readonly bytesUpstream: number;
    readonly bytesDownstream: number;
  }[];
  /** How many sessions each listener may have at a time. */
  readonly limits: readonly { readonly listener: string; readonly maxConnections: number }[];
  readonly pools: readonly PoolMetrics[];
  readonly upstreams: readonly UpstreamStatus[];
  readonly servers: readonly ServerStatus[];
  readonly materialize: HistogramCounts;
  readonly firstByte: Readonly<Record<ConnectionPath, HistogramCounts>>;
  /** Lines of the log by level, whether they were written or not. */
  readonly logged: LineCounts;
  /** The configuration file, as it read last, was refused. */
  readonly isReloadRefused: boolean;
}

export type ReloadResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly problems: readonly string[] };

/** What the admin interface may ask of the running proxy. */
export interface ProxyView {
  status(): Status;
  readiness(): Readiness;
  metrics(): MetricsSnapshot;
  /** Reads the configuration file again; a bad one changes nothing. */
  reload(): Promise<ReloadResult>;
}
