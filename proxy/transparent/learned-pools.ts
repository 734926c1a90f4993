/**
 * Which destinations get a pool when nobody knows beforehand who is asked for: those of transparent listeners, and the clients
 * of an upstream that is to see their addresses. The first visit is connected to in the ordinary way, and opens a pool
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
import { formatEndpoint } from "../../native/address.ts";
import type { PoolShare } from "../../pool/pool-block.ts";
import type { PoolEntry, PoolRegistry } from "../../pool/registry.ts";
import type { Visit } from "../engine/messages.ts";
import type { NamedPool } from "../upstreams.ts";

type Spec = Parameters<PoolRegistry["hold"]>[0];

export interface LearnedPoolsOptions {
  /** Undefined: nothing is accelerated. */
  readonly registry: PoolRegistry | undefined;
  /** Others have a pool now. */
  readonly onChange: () => void;
  readonly onError: (error: unknown) => void;
}

interface Learned {
  readonly spec: Spec;
  readonly pool: PoolEntry;
  /** Takes seen so far, and when the last one was. */
  visits: number;
  usedAtMs: number;
}

/** How often pools are looked at. */
const LOOK_INTERVAL = 1_000;
/** Several changes within this are told as one. */
const CHANGE_DELAY = 5;
/** A pool unused for this long may be given up for a destination that came twice. */
const SPARE_AFTER = 15_000;
/** Destinations that were visited once and have no pool. */
const WAITING_MAX = 4_096;

export class LearnedPools {
  readonly #config: Upstream;
  readonly #options: LearnedPoolsOptions;
  readonly #learned = new Map<string, Learned>();
  readonly #opening = new Set<string>();
  readonly #waiting: LRUCache<string, true>;
  readonly #timer: NodeJS.Timeout;
  #changing: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(config: Upstream, options: LearnedPoolsOptions) {
    this.#config = config;
    this.#options = options;
    this.#waiting = new LRUCache({ max: WAITING_MAX, ttl: config.learned.idleTimeoutMs });
    this.#timer = setInterval(() => this.#look(), LOOK_INTERVAL).unref();
  }

  get shares(): readonly PoolShare[] {
    return [...this.#learned.values()].map(({ pool }) => pool.share);
  }

  get named(): readonly NamedPool[] {
    return [...this.#learned.values()].map(({ pool, spec }) => ({
      ...pool,
      upstream: this.#config.name,
      server: formatEndpoint(spec.server),
      client: spec.source,
      maxSynRate: this.#config.pool.maxSynRate,
      isLearned: true,
    }));
  }

  /** Somebody asked for what has no pool. */
  visited(visit: Visit): void {
    const key = keyOf(visit);
    if (this.#options.registry === undefined || this.#isStopped) return;
    if (this.#learned.has(key) || this.#opening.has(key)) return; // workers hear of it a moment later
    const isBack = this.#waiting.delete(key);
    if (this.#hasRoom(isBack ? 1 : 0.5) || (isBack && this.#spareOne())) {
      this.#opening.add(key);
      this.#open(key, visit, this.#options.registry)
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
    clearTimeout(this.#changing);
    for (const key of [...this.#learned.keys()]) await this.#letGo(key);
  }

  /** Whether another pool fits into `share` of what there may be. */
  #hasRoom(share: number): boolean {
    const { destinations, maxHalfOpen } = this.#config.learned;
    const { min } = this.#config.pool;
    let halfOpen = min * (this.#opening.size + 1);
    for (const { pool } of this.#learned.values()) halfOpen += Math.max(min, pool.block.get("halfOpen"));
    const pools = this.#learned.size + this.#opening.size + 1;
    return pools <= Math.ceil(share * destinations) && halfOpen <= Math.max(min, share * maxHalfOpen);
  }

  async #open(
    key: string,
    { destination: server, client: source }: Visit,
    registry: PoolRegistry,
  ): Promise<void> {
    const { name: upstream, pool, learned } = this.#config;
    const { min, max, maxSynRate, maxAgeMs } = pool;
    const budget = { name: upstream, maxHalfOpen: learned.maxHalfOpen, maxSynRate: learned.maxSynRate };
    const spec = { upstream, server, source, min, max, maxSynRate, maxAgeMs, budget };
    const entry = await registry.hold(spec);
    if (this.#isStopped) {
      await registry.letGo(spec);
      return;
    }
    const visits = takesOf(entry);
    this.#learned.set(key, { spec, pool: entry, visits, usedAtMs: performance.now() });
    this.#changeSoon();
  }

  #look(): void {
    const now = performance.now();
    for (const [key, learned] of this.#learned) {
      const visits = takesOf(learned.pool);
      if (visits !== learned.visits) learned.usedAtMs = now;
      learned.visits = visits;
      if (now - learned.usedAtMs >= this.#config.learned.idleTimeoutMs) {
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
    if (!this.#isStopped) this.#changeSoon();
    await this.#options.registry?.letGo(learned.spec);
  }

  #changeSoon(): void {
    this.#changing ??= setTimeout(() => {
      this.#changing = undefined;
      this.#options.onChange();
    }, CHANGE_DELAY);
  }
}

const keyOf = ({ destination, client = "" }: Visit): string => `${formatEndpoint(destination)} ${client}`;

function takesOf({ block }: PoolEntry): number {
  return block.get("hits") + block.get("misses");
}
