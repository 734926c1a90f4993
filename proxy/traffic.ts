/**
 * What sessions were and are, summed over the workers: each pair of listener and upstream is a route, under which every
 * worker counts by itself (engine/counters.ts).
 */
import { COUNT, EngineCounters, ROUTES_MAX, sumHistograms } from "./engine/counters.ts";
import type { ConnectionPath, MetricsSnapshot, Saved, Status } from "./status.ts";
import { PATHS } from "./status.ts";

interface Route {
  readonly listener: string;
  readonly upstream: string;
}

/** Everything counted since the start; plain data. */
export interface TrafficTotals extends Pick<MetricsSnapshot, "materialize" | "firstByte"> {
  readonly routes: readonly (Route & {
    readonly [field in Inherited]: number;
  } & {
    readonly paths: Readonly<Record<ConnectionPath, number>>;
  })[];
}

/** What another process goes on counting from. */
const INHERITED = ["total", "bytesUpstream", "bytesDownstream", "roundTripsSaved", "secondsSaved"] as const;
type Inherited = (typeof INHERITED)[number];

/** What of a snapshot is counted here. */
type Counted = Pick<MetricsSnapshot, "connections" | "saved" | "listeners" | "materialize" | "firstByte">;

export class Traffic {
  readonly #counters: EngineCounters[] = [];
  readonly #routes: Route[] = [];

  /** Counters for one more worker. */
  addWorker(): EngineCounters {
    const counters = new EngineCounters();
    this.#counters.push(counters);
    return counters;
  }

  /** Where sessions of a listener towards an upstream are counted. */
  route(listener: string, upstream: string): number {
    const known = this.#routes.findIndex(
      (route) => route.listener === listener && route.upstream === upstream,
    );
    if (known >= 0) return known;
    if (this.#routes.length >= ROUTES_MAX) return ROUTES_MAX - 1;
    return this.#routes.push({ listener, upstream }) - 1;
  }

  get active(): number {
    return this.#routes.reduce(
      (sum, _, index) => sum + this.#sum((counters) => counters.get(index, COUNT.active)),
      0,
    );
  }

  of(listener: string, field: keyof typeof COUNT): number {
    let sum = 0;
    this.#routes.forEach((route, index) => {
      if (route.listener === listener) sum += this.#sum((counters) => counters.get(index, COUNT[field]));
    });
    return sum;
  }

  /** For people. */
  get overview(): Pick<Status, "saved" | "firstByte"> {
    const { saved, firstByte } = this.snapshot();
    const { accelerated, direct } = firstByte;
    const total = (field: keyof Saved) => saved.reduce((sum, route) => sum + route[field], 0);
    return {
      saved: { roundTrips: total("roundTrips"), seconds: total("seconds") },
      firstByte: { accelerated, direct },
    };
  }

  snapshot(): Counted {
    const connections = this.#routes.flatMap((route, index) =>
      PATHS.map((path) => ({ ...route, path, count: this.#sum((counters) => counters.path(index, path)) })),
    );
    const saved = this.#routes.map((route, index) => ({
      ...route,
      roundTrips: this.#sum((counters) => counters.get(index, COUNT.roundTripsSaved)),
      seconds: this.#sum((counters) => counters.get(index, COUNT.secondsSaved)),
    }));
    return {
      connections,
      saved,
      listeners: [...new Set(this.#routes.map(({ listener }) => listener))].map((listener) => ({
        listener,
        active: this.of(listener, "active"),
        bytesUpstream: this.of(listener, "bytesUpstream"),
        bytesDownstream: this.of(listener, "bytesDownstream"),
      })),
      materialize: sumHistograms(this.#counters.map(({ materialize }) => materialize)),
      firstByte: Object.fromEntries(
        PATHS.map((path) => [path, sumHistograms(this.#counters.map((c) => c.firstByte(path)))]),
      ) as MetricsSnapshot["firstByte"],
    };
  }

  /** For the process that goes on counting. */
  totals(): TrafficTotals {
    const { materialize, firstByte } = this.snapshot();
    const routes = this.#routes.map((route, index) => ({
      ...route,
      ...(Object.fromEntries(
        INHERITED.map((field) => [field, this.#sum((counters) => counters.get(index, COUNT[field]))]),
      ) as Record<Inherited, number>),
      paths: Object.fromEntries(
        PATHS.map((path) => [path, this.#sum((counters) => counters.path(index, path))]),
      ) as Record<ConnectionPath, number>,
    }));
    return { routes, materialize, firstByte };
  }

  /** Adds what another process counted. */
  inherit({ routes, materialize, firstByte }: TrafficTotals): void {
    const counters = this.addWorker();
    counters.inherit(materialize, firstByte);
    for (const { listener, upstream, paths, ...totals } of routes) {
      const route = this.route(listener, upstream);
      for (const field of INHERITED) counters.add(route, COUNT[field], totals[field]);
      for (const path of PATHS) counters.countPath(route, path, paths[path]);
    }
  }

  #sum(read: (counters: EngineCounters) => number): number {
    return this.#counters.reduce((sum, counters) => sum + read(counters), 0);
  }
}
