/**
 * The upstreams of the configuration as the main thread keeps them: names resolved, a pool per address, and
 * every engine worker told of each change.
 */
import { formatHostPort } from "../config/addresses.ts";
import type { Upstream } from "../config/schema.ts";
import { type Endpoint, formatEndpoint } from "../native/address.ts";
import type { Logger } from "../pool/logger.ts";
import type { PoolEntry, PoolRegistry } from "../pool/registry.ts";
import { HealthChecks } from "./balance/checks.ts";
import { Line } from "./balance/line.ts";
import type { ServerState } from "./balance/server-state.ts";
import type { ServerStates } from "./balance/server-states.ts";
import type { ServerShare, UpstreamShare, Visit } from "./engine/messages.ts";
import type { NameWatcher } from "./names.ts";
import {
  POOL_EVENTS,
  type PoolMetrics,
  type PoolStatus,
  type ServerStatus,
  type UpstreamStatus,
} from "./status.ts";
import { LearnedPools } from "./transparent/learned-pools.ts";

type Spec = Parameters<PoolRegistry["hold"]>[0];

interface LiveServer {
  readonly share: ServerShare;
  readonly spec: Spec;
  readonly pool: PoolEntry | undefined;
  readonly state: ServerState;
  /** What a check calls it. */
  readonly host: string;
}

/** A pool and the upstream and server it belongs to, for the status page. */
export interface NamedPool extends PoolEntry {
  readonly upstream: string;
  readonly server: string;
  readonly maxSynRate: number;
  /** The address that the server sees, where that is a client's. */
  readonly client: string | undefined;
  /** It comes and goes with what clients ask for. */
  readonly isLearned: boolean;
}

export interface UpstreamsOptions {
  readonly names: NameWatcher;
  /** Undefined: nothing is accelerated. */
  readonly registry: PoolRegistry | undefined;
  readonly states: ServerStates;
  readonly log: Logger;
  /** Tells every worker. */
  readonly publish: (share: UpstreamShare) => void;
  readonly onError: (error: unknown) => void;
  /** PEM text that certificates of its servers are checked against; undefined: those of Node. */
  readonly authority: string | undefined;
}

/** One upstream. Changes are applied one after another, in the order they came. */
export class LiveUpstream {
  readonly config: Upstream;
  readonly #options: UpstreamsOptions;
  readonly #checks: HealthChecks | undefined;
  /** Of the clients, where servers are to see their addresses. */
  readonly #clients: LearnedPools | undefined;
  readonly #line: Line;
  readonly #watches: (() => void)[] = [];
  readonly #addresses: (readonly Endpoint[])[];
  #servers: readonly LiveServer[] = [];
  #applying: Promise<void> = Promise.resolve();
  #isPublished = false;

  constructor(config: Upstream, options: UpstreamsOptions) {
    this.config = config;
    this.#options = options;
    this.#addresses = config.servers.map(() => []);
    const { name: upstream, health } = config;
    const line = options.states.line(upstream);
    this.#line = new Line(line);
    if (config.sourceAddress === "client") {
      const { registry, onError } = options;
      this.#clients = new LearnedPools(config, { registry, onError, onChange: () => this.publish() });
    }
    if (health) this.#checks = new HealthChecks({ upstream, config: health, line, log: options.log });
  }

  /** Resolves the names and starts the pools. Rejects as PoolRegistry.hold(). */
  async prepare(): Promise<void> {
    const { names } = this.#options;
    const found = await Promise.all(
      this.config.servers.map(async ({ address: { host, port } }) =>
        (await names.first(host)).map((address) => ({ address, port })),
      ),
    );
    found.forEach((endpoints, index) => {
      this.#addresses[index] = endpoints;
    });
    await this.#apply();
    for (const [index, { address }] of this.config.servers.entries()) {
      if (address.kind === "ip") continue;
      const watch = names.watch(address.host, address.port, (endpoints) => this.#onNames(index, endpoints));
      this.#watches.push(watch);
    }
  }

  get pools(): readonly NamedPool[] {
    const { name: upstream, pool: settings } = this.config;
    const common = { upstream, maxSynRate: settings.maxSynRate, client: undefined, isLearned: false };
    const own = this.#servers.flatMap(({ pool, share: { endpoint } }) =>
      pool ? [{ ...pool, ...common, server: formatEndpoint(endpoint) }] : [],
    );
    return [...own, ...(this.#clients?.named ?? [])];
  }

  /** A client came to a server that has no half-opens for it. */
  visited(visit: Visit): void {
    this.#clients?.visited(visit);
  }

  get status(): UpstreamStatus {
    const { name, balance } = this.config;
    return { name, balance, queued: this.#line.length, refused: this.#line.refused };
  }

  get servers(): readonly ServerStatus[] {
    return this.#servers.map(({ share, state }) => ({
      upstream: this.config.name,
      server: formatEndpoint(share.endpoint),
      state: state.condition,
      weight: share.weight,
      active: state.active,
      maxConnections: share.maxConnections,
      failures: state.failed,
      ejections: state.ejections,
    }));
  }

  /** Tells the workers of it as it is, and from now on of every change. */
  publish(): void {
    this.#isPublished = true;
    const { name, balance: policy, connectTimeoutMs, maxQueue, proxyProtocol } = this.config;
    const { tls, reuse, hostHeader } = this.config;
    this.#options.publish({
      ...{ name, policy, connectTimeoutMs, maxQueue, proxyProtocol },
      line: this.#options.states.line(name),
      servers: this.#servers.map(({ share }) => share),
      clientPools: this.#clients?.shares,
      http: {
        tls: tls === null ? undefined : { ...tls, ca: this.#options.authority ?? null },
        reuseMs: reuse === "never" ? 0 : reuse,
        hostHeader: hostHeader === "keep" ? undefined : hostHeader,
      },
    });
  }

  /** Ends the checks and lets the pools go. The workers are told by whoever replaces or drops the upstream. */
  async stop(): Promise<void> {
    for (const unwatch of this.#watches) unwatch();
    this.#checks?.stop();
    await this.#clients?.stop();
    await this.#applying.catch(() => {});
    await this.#letGo(this.#servers);
  }

  #onNames(index: number, endpoints: readonly Endpoint[]): void {
    this.#addresses[index] = endpoints;
    this.#applying = this.#applying.then(() => this.#apply()).catch(this.#options.onError);
  }

  async #apply(): Promise<void> {
    const before = this.#servers;
    const seen = new Set<string>();
    const servers: LiveServer[] = [];
    try {
      for (const [index, config] of this.config.servers.entries()) {
        for (const endpoint of this.#addresses[index]!) {
          const key = formatEndpoint(endpoint);
          if (seen.has(key)) continue;
          seen.add(key);
          servers.push(await this.#server(endpoint, config));
        }
      }
    } catch (error) {
      await this.#letGo(servers);
      throw error;
    }
    this.#servers = servers;
    if (this.#isPublished) this.publish();
    if (this.#checks) {
      this.#checks.servers = servers.map(({ share: { endpoint }, state, host }) => ({
        endpoint,
        state,
        host,
      }));
    }
    await this.#letGo(before);
  }

  async #server(endpoint: Endpoint, config: Upstream["servers"][number]): Promise<LiveServer> {
    const { min, max, maxSynRate, maxAgeMs } = this.config.pool;
    const spec: Spec = { upstream: this.config.name, server: endpoint, min, max, maxSynRate, maxAgeMs };
    const pool = this.#clients === undefined ? await this.#options.registry?.hold(spec) : undefined;
    const state = this.#options.states.hold(this.config.name, endpoint);
    if (!this.#checks) state.isUnhealthy = false; // found by checks that a reload took away
    const { weight, maxConnections, address } = config;
    const hostName = address.kind === "name" ? address.host : undefined;
    const limits = { weight, maxConnections };
    const share = { endpoint, hostName, ...limits, pool: pool?.share, state: state.buffer };
    return { share, spec, pool, state, host: formatHostPort(config.address) };
  }

  async #letGo(servers: readonly LiveServer[]): Promise<void> {
    for (const { spec, pool } of servers) {
      this.#options.states.letGo(spec.upstream, spec.server);
      if (pool) await this.#options.registry?.letGo(spec);
    }
  }
}

/** A pool as GET /status shows it. */
export function poolStatus({ block, upstream, server, client }: NamedPool): PoolStatus {
  return {
    upstream,
    server,
    ...(client !== undefined && { client }),
    halfOpen: block.get("halfOpen"),
    target: block.get("target"),
    rttMs: block.get("rttUs") / 1e3,
    cookies: block.get("cookies") === 1,
    paused: block.get("closed") === 1,
    hits: block.get("hits"),
    misses: block.get("misses"),
    replays: block.get("replays"),
    tainted: block.get("tainted"),
    vanished: block.get("vanished"),
    refused: block.get("refused"),
  };
}

/** Pools as GET /metrics counts them: those for all clients of a server are one. */
export function poolMetrics(pools: readonly NamedPool[]): readonly PoolMetrics[] {
  const byServer = new Map<string, PoolMetrics>();
  for (const pool of pools) {
    const key = `${pool.upstream} ${pool.server}`;
    const known = byServer.get(key);
    const counted = countsOf(pool);
    byServer.set(key, known === undefined ? counted : sumOf(known, counted));
  }
  return [...byServer.values()];
}

function sumOf(a: PoolMetrics, b: PoolMetrics): PoolMetrics {
  const events = POOL_EVENTS.map((event) => [event, a.events[event] + b.events[event]] as const);
  return {
    ...a,
    halfOpen: a.halfOpen + b.halfOpen,
    target: a.target + b.target,
    max: a.max + b.max,
    ceiling: a.ceiling + b.ceiling,
    isPaused: a.isPaused || b.isPaused,
    isOnCookies: a.isOnCookies || b.isOnCookies,
    syns: a.syns + b.syns,
    maxSynRate: a.maxSynRate + b.maxSynRate,
    events: Object.fromEntries(events) as PoolMetrics["events"],
  };
}

function countsOf({ block, share, upstream, server, maxSynRate }: NamedPool): PoolMetrics {
  return {
    upstream,
    server,
    halfOpen: block.get("halfOpen"),
    target: block.get("target"),
    max: share.max,
    ceiling: block.get("ceiling"),
    isPaused: block.get("closed") === 1,
    isOnCookies: block.get("cookies") === 1,
    syns: block.get("syns"),
    maxSynRate,
    events: {
      opened: block.get("opened"),
      leased: block.get("hits"),
      refreshed: block.get("refreshed"),
      tainted: block.get("tainted"),
      vanished: block.get("vanished"),
      released: block.get("released"),
      refused: block.get("refused"),
      cookie: block.get("cookieSightings"),
    },
  };
}

/** Why a pool is not ready, if it is not. Those that were learned come and go: nobody waits for them. */
export function unfilledReasons({ block, upstream, server, isLearned }: NamedPool): readonly string[] {
  const isReady = isLearned || block.get("settled") === 1;
  return isReady ? [] : [`the pool of ${upstream} (${server}) is not filled yet`];
}
