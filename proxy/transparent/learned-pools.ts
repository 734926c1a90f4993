/**
 * Which destinations of transparent listeners get a pool. The first visit is connected to in the ordinary way, and opens one
 * for those that follow; who is not visited any more loses it.
 *
 *   unknown ──visit──▶ waiting (under pressure) ──visit again──▶ pooled ──idle──▶ unknown
 *      └──────visit, while less than half of the room is used────▶ ┘
 *
 * Half of the room is for those that come back: a scan visits each destination once, and fills no more than the other half.
 * A pool in use is never given up for another; of the idle ones that with the fewest visits goes first.
 */
import { LRUCache } from "lru-cache";
import type { Upstream } from "../../config/schema.ts";
import { type Endpoint, formatEndpoint } from "../../native/address.ts";
import type { PoolEntry, PoolRegistry } from "../../pool/registry.ts";
import { ServerState } from "../balance/server-state.ts";
import { PLAIN_HTTP } from "../http/messages.ts";
import type { ServerStatus, UpstreamStatus } from "../status.ts";
import { LiveUpstream, type NamedPool, type UpstreamsOptions } from "../upstreams.ts";

type Spec = Parameters<PoolRegistry["hold"]>[0];

export type LearnedPoolsOptions = Pick<UpstreamsOptions, "registry" | "states" | "publish" | "onError">;

interface Learned {
  readonly endpoint: Endpoint;
  readonly spec: Spec;
  readonly pool: PoolEntry;
  /** Takes seen so far, and when the last one was. */
  visits: number;
  usedAtMs: number;
}

/** How often pools are looked at. */
const LOOK_INTERVAL = 1_000;
/** Several changes within this are told as one. */
const PUBLISH_DELAY = 5;
/** A pool unused for this long may be given up for a destination that came twice. */
const SPARE_AFTER = 15_000;
/** Destinations that were visited once and have no pool. */
const WAITING_MAX = 4_096;

export class LearnedPools {
  readonly config: Upstream;
  readonly #options: LearnedPoolsOptions;
  /** Of no use to servers that are not balanced. */
  readonly #state = new ServerState().buffer;
  readonly #learned = new Map<string, Learned>();
  readonly #opening = new Set<string>();
  readonly #waiting: LRUCache<string, true>;
  readonly #timer: NodeJS.Timeout;
  #publishing: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(config: Upstream, options: LearnedPoolsOptions) {
    this.config = config;
    this.#options = options;
    this.#waiting = new LRUCache({ max: WAITING_MAX, ttl: config.learned.idleTimeoutMs });
    this.#timer = setInterval(() => this.#look(), LOOK_INTERVAL).unref();
  }

  /** There is nothing to wait for. */
  async prepare(): Promise<void> {}

  get status(): UpstreamStatus {
    const { name, balance } = this.config;
    return { name, balance, queued: 0, refused: 0 };
  }

  /** Those with a pool are among the pools. */
  get servers(): readonly ServerStatus[] {
    return [];
  }

  get pools(): readonly NamedPool[] {
    return [...this.#learned.values()].map(({ pool, endpoint }) => ({
      ...pool,
      upstream: this.config.name,
      server: formatEndpoint(endpoint),
      maxSynRate: this.config.pool.maxSynRate,
      isLearned: true,
    }));
  }

  /** Tells the workers of it as it is. */
  publish(): void {
    clearTimeout(this.#publishing);
    this.#publishing = undefined;
    const { name, balance: policy, connectTimeoutMs, proxyProtocol } = this.config;
    const servers = [...this.#learned.values()].map(({ endpoint, pool }) => ({
      ...{ endpoint, weight: 1, maxConnections: 0 },
      pool: pool.share,
      state: this.#state,
    }));
    this.#options.publish({
      ...{ name, policy, connectTimeoutMs, maxQueue: 0, proxyProtocol, servers },
      line: this.#options.states.line(name),
      http: PLAIN_HTTP,
      isLearned: true,
    });
  }

  /** A client asked for a destination that has no pool. */
  visited(endpoint: Endpoint): void {
    const key = formatEndpoint(endpoint);
    if (this.#options.registry === undefined || this.#isStopped) return;
    if (this.#learned.has(key) || this.#opening.has(key)) return; // workers hear of it a moment later
    const isBack = this.#waiting.delete(key);
    if (this.#hasRoom(isBack ? 1 : 0.5) || (isBack && this.#spareOne())) {
      this.#opening.add(key);
      this.#open(key, endpoint, this.#options.registry)
        .catch(this.#options.onError)
        .finally(() => this.#opening.delete(key));
    } else {
      this.#waiting.set(key, true);
    }
  }

  /** Lets the pools go. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearInterval(this.#timer);
    clearTimeout(this.#publishing);
    for (const key of [...this.#learned.keys()]) await this.#letGo(key);
  }

  /** Whether another pool fits into `share` of what there may be. */
  #hasRoom(share: number): boolean {
    const { destinations, maxHalfOpen } = this.config.learned;
    const { min } = this.config.pool;
    let halfOpen = min * (this.#opening.size + 1);
    for (const { pool } of this.#learned.values()) halfOpen += Math.max(min, pool.block.get("halfOpen"));
    const pools = this.#learned.size + this.#opening.size + 1;
    return pools <= Math.ceil(share * destinations) && halfOpen <= Math.max(min, share * maxHalfOpen);
  }

  async #open(key: string, server: Endpoint, registry: PoolRegistry): Promise<void> {
    const { name: upstream, pool, learned } = this.config;
    const { min, max, maxSynRate, maxAgeMs } = pool;
    const budget = { name: upstream, maxHalfOpen: learned.maxHalfOpen, maxSynRate: learned.maxSynRate };
    const spec = { upstream, server, min, max, maxSynRate, maxAgeMs, budget };
    const entry = await registry.hold(spec);
    if (this.#isStopped) {
      await registry.letGo(spec);
      return;
    }
    const visits = takesOf(entry);
    this.#learned.set(key, { endpoint: server, spec, pool: entry, visits, usedAtMs: performance.now() });
    this.#publishSoon();
  }

  #look(): void {
    const now = performance.now();
    for (const [key, learned] of this.#learned) {
      const visits = takesOf(learned.pool);
      if (visits !== learned.visits) learned.usedAtMs = now;
      learned.visits = visits;
      if (now - learned.usedAtMs >= this.config.learned.idleTimeoutMs) {
        this.#letGo(key).catch(this.#options.onError);
      }
    }
  }

  /** Gives up the idle pool with the fewest visits; false when all are in use. */
  #spareOne(): boolean {
    this.#look();
    const now = performance.now();
    const idle = [...this.#learned].filter(([, { usedAtMs }]) => now - usedAtMs >= SPARE_AFTER);
    const [least] = idle.sort(([, a], [, b]) => a.visits - b.visits || a.usedAtMs - b.usedAtMs);
    if (least === undefined) return false;
    this.#letGo(least[0]).catch(this.#options.onError);
    return true;
  }

  async #letGo(key: string): Promise<void> {
    const learned = this.#learned.get(key);
    if (learned === undefined) return;
    this.#learned.delete(key);
    if (!this.#isStopped) this.#publishSoon();
    await this.#options.registry?.letGo(learned.spec);
  }

  #publishSoon(): void {
    this.#publishing ??= setTimeout(() => this.publish(), PUBLISH_DELAY);
  }
}

function takesOf({ block }: PoolEntry): number {
  return block.get("hits") + block.get("misses");
}

/** An upstream with the servers of the configuration, or without any those that clients ask for. */
export function newUpstream(config: Upstream, options: UpstreamsOptions): LiveUpstream | LearnedPools {
  return config.servers.length === 0 ? new LearnedPools(config, options) : new LiveUpstream(config, options);
}
