import type {
  HistogramCounts,
  MetricsSnapshot,
  ProxyView,
  Readiness,
  ReloadResult,
  Status,
} from "../../../proxy/status.ts";

/** A proxy that says what a test wrote down: the admin interface sees no more of a real one than this. */
export class FakeProxy implements ProxyView {
  reasons: readonly string[] = [];
  reloadResult: ReloadResult = { ok: true };
  reloads = 0;
  failure: Error | undefined;

  status(): Status {
    if (this.failure !== undefined) throw this.failure;
    return fakeStatus;
  }

  readiness(): Readiness {
    return { reasons: this.reasons };
  }

  metrics(): MetricsSnapshot {
    return fakeMetrics;
  }

  async reload(): Promise<ReloadResult> {
    this.reloads += 1;
    return this.reloadResult;
  }
}

const server = "10.0.0.7:8080";
const balance: Pick<Status, "upstreams" | "servers"> = {
  upstreams: [{ name: "origin", balance: "round-robin", queued: 2, refused: 5 }],
  servers: [
    {
      upstream: "origin",
      server,
      state: "ejected",
      weight: 3,
      active: 7,
      maxConnections: 9,
      failures: 11,
      ejections: 1,
    },
  ],
};

export const fakeStatus: Status = {
  version: "1.2.3",
  uptimeMs: 93_784_000,
  driver: "io_uring",
  workers: 2,
  listeners: [{ name: "api", address: "127.0.0.1:8001", mode: "tcp", active: 3, total: 1234 }],
  pools: [
    {
      upstream: "origin",
      server,
      halfOpen: 4,
      target: 6,
      rttMs: 40.04,
      cookies: true,
      paused: false,
      hits: 990,
      misses: 10,
      replays: 1,
      tainted: 2,
      vanished: 3,
      refused: 4,
    },
  ],
  ...balance,
  saved: { roundTrips: 989, seconds: 39.6 },
  firstByte: {
    accelerated: { boundsSeconds: [0.05, 0.1], counts: [980, 9, 0], sumSeconds: 41 },
    direct: { boundsSeconds: [0.05, 0.1], counts: [0, 9, 1], sumSeconds: 0.9 },
  },
  events: [
    { timeMs: 1_790_000_000_000, level: "warning", text: "origin at 10.0.0.7:8080 rests", times: 2 },
    { timeMs: 1_789_999_990_000, level: "info", text: "Started", times: 1 },
  ],
};

const none: HistogramCounts = { boundsSeconds: [0.1], counts: [0, 0], sumSeconds: 0 };

export const fakeMetrics: MetricsSnapshot = {
  connections: [
    { listener: "api", upstream: "origin", path: "accelerated", count: 9_007_199_254_740_991 },
    { listener: "api", upstream: "origin", path: "failed", count: 0 },
  ],
  saved: [{ listener: "api", upstream: "origin", roundTrips: 989, seconds: 39.6 }],
  listeners: [{ listener: "api", active: 3, bytesUpstream: 1_000, bytesDownstream: 2_000 }],
  pools: [
    {
      upstream: "origin",
      server,
      halfOpen: 4,
      target: 6,
      max: 32,
      ceiling: 16,
      isPaused: true,
      isOnCookies: false,
      syns: 9,
      maxSynRate: 200,
      events: {
        opened: 1,
        leased: 2,
        refreshed: 3,
        tainted: 4,
        vanished: 5,
        released: 6,
        refused: 7,
        cookie: 8,
      },
    },
  ],
  ...balance,
  limits: [{ listener: "api", maxConnections: 10 }],
  logged: { info: 12, warning: 2, error: 1 },
  isReloadRefused: true,
  materialize: { boundsSeconds: [0.00001, 0.0001], counts: [5, 3, 2], sumSeconds: 0.00123 },
  firstByte: {
    accelerated: { boundsSeconds: [0.1], counts: [7, 1], sumSeconds: 0.9 },
    direct: none,
    replayed: none,
    failed: none,
  },
};
