/**
 * Pools by what they are: the same destination with the same settings is the same pool. A pool nobody holds
 * any more is kept a while, since names flap and configurations come back, then its half-opens are given up.
 */
import { LRUCache } from "lru-cache";
import { formatEndpoint } from "../native/address.ts";
import type { KeeperHandle } from "./keeper-handle.ts";
import { POOL_IDLE, POOLS_MAX } from "./limits.ts";
import { PoolBlock, type PoolShare } from "./pool-block.ts";
import type { PoolSpec } from "./pool-spec.ts";

export interface PoolEntry {
  readonly share: PoolShare;
  readonly block: PoolBlock;
}

interface Held extends PoolEntry {
  holders: number;
}

export class PoolRegistry {
  readonly #keeper: KeeperHandle;
  readonly #held = new Map<string, Promise<Held>>();
  readonly #idle: LRUCache<string, Held>;

  constructor(keeper: KeeperHandle) {
    this.#keeper = keeper;
    this.#idle = new LRUCache({
      max: POOLS_MAX,
      ttl: POOL_IDLE,
      ttlAutopurge: true,
      dispose: ({ share }, _key, reason) => {
        if (reason !== "delete") this.#keeper.removePool(share.id);
      },
    });
  }

  /** The pool for `spec`, started if need be. Rejects with PoolError ACCEL_EPERM without the capabilities. */
  async hold(spec: Omit<PoolSpec, "id">): Promise<PoolEntry> {
    const key = poolKey(spec);
    let starting = this.#held.get(key);
    if (starting === undefined) {
      starting = this.#revive(key) ?? this.#start(spec);
      this.#held.set(key, starting);
      starting.catch(() => this.#held.delete(key));
    }
    const pool = await starting;
    pool.holders += 1;
    return pool;
  }

  /** The caller no longer uses the pool of `spec`. */
  async letGo(spec: Omit<PoolSpec, "id">): Promise<void> {
    const key = poolKey(spec);
    const pool = await this.#held.get(key);
    if (pool === undefined) return;
    pool.holders -= 1;
    if (pool.holders > 0) return;
    this.#held.delete(key);
    this.#idle.set(key, pool);
  }

  /** Gives up every pool nobody holds, without waiting for its time to end. */
  close(): void {
    // clear() disposes for the reason "delete", as reviving does.
    for (const { share } of this.#idle.values()) this.#keeper.removePool(share.id);
    this.#idle.clear();
  }

  async #start(spec: Omit<PoolSpec, "id">): Promise<Held> {
    const share = await this.#keeper.addPool(spec);
    return { share, block: new PoolBlock(share.max, share.buffer), holders: 0 };
  }

  #revive(key: string): Promise<Held> | undefined {
    const pool = this.#idle.get(key);
    if (pool === undefined) return undefined;
    this.#idle.delete(key);
    return Promise.resolve(pool);
  }
}

/** Equal for specifications that share a pool. */
export function poolKey(spec: Omit<PoolSpec, "id">): string {
  const { upstream, server, source = "", min, max, maxSynRate, maxAgeMs, budget } = spec;
  const shared = budget ? [budget.name, budget.maxHalfOpen, budget.maxSynRate] : [];
  return [upstream, formatEndpoint(server), source, min, max, maxSynRate, maxAgeMs, ...shared].join(" ");
}
