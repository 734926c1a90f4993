import { readdirSync } from "node:fs";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { EVENT_LEVELS } from "../events.ts";
import { readLimit } from "../process-limits.ts";
import { type HistogramCounts, type MetricsSnapshot, PATHS, POOL_EVENTS } from "../status.ts";
import { version } from "../version.ts";

/**
 * GET /metrics: one snapshot of the proxy in the text format of Prometheus. The registry is made anew for each
 * scrape, since the counting is done elsewhere and what was removed by a reload must not linger.
 */

const PREFIX = "accelproxy_";

export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** The whole answer, exact to the snapshot. */
export async function formatMetrics(snapshot: MetricsSnapshot): Promise<string> {
  const registry = new Registry();
  addConnections(registry, snapshot);
  addPools(registry, snapshot);
  addServers(registry, snapshot);
  addHistogram(registry, "materialize_seconds", "Time to build an established socket from a half-open one", [
    [{}, snapshot.materialize],
  ]);
  addHistogram(
    registry,
    "first_byte_seconds",
    "Time from going to the upstream to its first byte, by path",
    PATHS.map((path) => [{ path }, snapshot.firstByte[path]]),
  );
  addLog(registry, snapshot);
  addProcess(registry);
  return registry.metrics();
}

function addConnections(
  registry: Registry,
  { connections, listeners, limits, saved }: MetricsSnapshot,
): void {
  const total = counter(registry, "connections_total", "Sessions that ended, by the path to their upstream", [
    "listener",
    "upstream",
    "path",
  ]);
  for (const { count, listener, upstream, path } of connections)
    total.inc({ listener, upstream, path }, count);

  const route = ["listener", "upstream"] as const;
  const trips = counter(registry, "round_trips_saved_total", "Round trips that half-opens saved", route);
  const waiting = counter(registry, "waiting_saved_seconds_total", "Those round trips in seconds", route);
  for (const { listener, upstream, roundTrips, seconds } of saved) {
    trips.inc({ listener, upstream }, roundTrips);
    waiting.inc({ listener, upstream }, seconds);
  }

  const active = gauge(registry, "connections_active", "Sessions now", ["listener"]);
  const most = gauge(registry, "connections_max", "Sessions there may be at a time", ["listener"]);
  for (const { listener, maxConnections } of limits) most.set({ listener }, maxConnections);
  const bytes = counter(registry, "bytes_total", "Payload bytes passed on, by direction", [
    "listener",
    "direction",
  ]);
  for (const { listener, ...counts } of listeners) {
    active.set({ listener }, counts.active);
    bytes.inc({ listener, direction: "upstream" }, counts.bytesUpstream);
    bytes.inc({ listener, direction: "downstream" }, counts.bytesDownstream);
  }
}

function addPools(registry: Registry, { pools }: MetricsSnapshot): void {
  const labels = ["upstream", "server"] as const;
  const halfOpen = gauge(registry, "half_open", "Half-open connections that are ready", labels);
  const target = gauge(registry, "half_open_target", "Half-open connections the pool aims at", labels);
  const max = gauge(registry, "half_open_max", "Half-open connections the configuration allows", labels);
  const ceiling = gauge(registry, "half_open_ceiling", "Less than the max since SYNs were dropped", labels);
  const paused = gauge(registry, "half_open_paused", "1 while the pool opens nothing", labels);
  const cookies = gauge(registry, "half_open_cookies", "1 while the server answers with SYN cookies", labels);
  const syns = counter(registry, "half_open_syns_total", "SYNs sent, repetitions included", labels);
  const rate = gauge(registry, "half_open_syn_rate_max", "SYNs there may be in a second", labels);
  const events = counter(registry, "half_open_events_total", "What happened to half-open connections", [
    ...labels,
    "event",
  ]);
  for (const { upstream, server, ...pool } of pools) {
    halfOpen.set({ upstream, server }, pool.halfOpen);
    target.set({ upstream, server }, pool.target);
    max.set({ upstream, server }, pool.max);
    ceiling.set({ upstream, server }, pool.ceiling);
    paused.set({ upstream, server }, pool.isPaused ? 1 : 0);
    cookies.set({ upstream, server }, pool.isOnCookies ? 1 : 0);
    syns.inc({ upstream, server }, pool.syns);
    rate.set({ upstream, server }, pool.maxSynRate);
    for (const event of POOL_EVENTS) events.inc({ upstream, server, event }, pool.events[event]);
  }
}

function addServers(registry: Registry, { upstreams, servers }: MetricsSnapshot): void {
  const queued = gauge(registry, "upstream_queued", "Sessions in line for a place at a server", ["upstream"]);
  const refused = counter(registry, "upstream_refused_total", "Sessions that found the line too long", [
    "upstream",
  ]);
  for (const { name: upstream, ...status } of upstreams) {
    queued.set({ upstream }, status.queued);
    refused.inc({ upstream }, status.refused);
  }
  const labels = ["upstream", "server"] as const;
  const up = gauge(registry, "server_up", "1 while the server is neither ejected nor unhealthy", labels);
  const active = gauge(registry, "server_connections_active", "Sessions at the server now", labels);
  const failures = counter(registry, "server_connect_failures_total", "Connects that failed", labels);
  const ejections = counter(registry, "server_ejections_total", "Times the server was ejected", labels);
  for (const { upstream, server, ...status } of servers) {
    up.set({ upstream, server }, status.state === "up" ? 1 : 0);
    active.set({ upstream, server }, status.active);
    failures.inc({ upstream, server }, status.failures);
    ejections.inc({ upstream, server }, status.ejections);
  }
}

function addLog(registry: Registry, { logged, isReloadRefused }: MetricsSnapshot): void {
  const lines = counter(registry, "log_lines_total", "Lines of the log, whether written or not", ["level"]);
  for (const level of EVENT_LEVELS) lines.inc({ level }, logged[level]);
  const refused = gauge(
    registry,
    "reload_refused",
    "1 when the configuration was refused at the last reload",
  );
  refused.set(isReloadRefused ? 1 : 0);
}

/** What the collectors of prom-client would say too, without their timers that wake an idle process. */
function addProcess(registry: Registry): void {
  const { user, system } = process.cpuUsage();
  counter(registry, "process_cpu_seconds_total", "CPU time of all threads").inc((user + system) / 1e6);
  gauge(registry, "process_resident_memory_bytes", "Resident memory").set(process.memoryUsage.rss());
  gauge(registry, "process_start_time_seconds", "Start of the process, seconds since the epoch").set(
    Math.round(performance.timeOrigin) / 1e3,
  );
  const descriptors = countDescriptors();
  if (descriptors !== undefined) {
    gauge(registry, "process_open_fds", "Open descriptors").set(descriptors);
  }
  const openFiles = Number(readLimit("Max open files").soft);
  if (Number.isFinite(openFiles)) {
    gauge(registry, "process_max_fds", "How many descriptors there may be").set(openFiles);
  }
  gauge(registry, "build_info", "Always 1; the version is a label", ["version"]).set({ version }, 1);
}

function countDescriptors(): number | undefined {
  try {
    return readdirSync("/proc/self/fd").length - 1; // without the one that reads the folder
  } catch {
    return undefined; // /proc is not mounted, or no descriptor is left
  }
}

function counter<const T extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly T[] = [],
): Counter<T> {
  return new Counter({ name: PREFIX + name, help, labelNames, registers: [registry] });
}

function gauge<const T extends string>(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly T[] = [],
): Gauge<T> {
  return new Gauge({ name: PREFIX + name, help, labelNames, registers: [registry] });
}

type Series = readonly [labels: Readonly<Record<string, string>>, counts: HistogramCounts];

/**
 * A histogram that was counted elsewhere; prom-client's own can only observe one value at a time. Registry asks
 * a histogram for getForPromString() (prom-client 15, lib/registry.js), where `labels` and `sharedLabels` of a
 * value are printed together.
 */
class CountedHistogram extends Histogram<string> {
  readonly #head: { readonly name: string; readonly help: string };
  readonly #series: readonly Series[];

  constructor(registry: Registry, name: string, help: string, series: readonly Series[]) {
    super({ name, help, registers: [registry] });
    this.#head = { name, help };
    this.#series = series;
  }

  async getForPromString(): Promise<object> {
    const values = this.#series.flatMap(([labels, counts]) => cumulated(this.#head.name, labels, counts));
    return { ...this.#head, type: "histogram", values };
  }
}

function cumulated(name: string, sharedLabels: Series[0], counts: HistogramCounts): object[] {
  let count = 0;
  const values: object[] = [];
  for (const [index, observed] of counts.counts.entries()) {
    count += observed;
    const le = counts.boundsSeconds[index] ?? "+Inf";
    values.push({ metricName: `${name}_bucket`, labels: { le }, sharedLabels, value: count });
  }
  values.push({ metricName: `${name}_sum`, labels: {}, sharedLabels, value: counts.sumSeconds });
  values.push({ metricName: `${name}_count`, labels: {}, sharedLabels, value: count });
  return values;
}

function addHistogram(registry: Registry, name: string, help: string, series: readonly Series[]): void {
  new CountedHistogram(registry, PREFIX + name, help, series);
}
