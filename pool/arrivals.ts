import type { Demand } from "./demand.ts";
import { INHERITED, type PoolBlock, type PoolCounts } from "./pool-block.ts";
import type { RttEstimator } from "./rtt.ts";

/** Tells a pool's demand how many connections takers wanted, from what the pool's block counts. */
export class Arrivals {
  readonly #block: PoolBlock;
  readonly #demand: Demand;
  readonly #rtt: RttEstimator;
  #takesSeen = 0;

  constructor(block: PoolBlock, demand: Demand, rtt: RttEstimator) {
    this.#block = block;
    this.#demand = demand;
    this.#rtt = rtt;
  }

  /** Counts those of the last `spanMs`. */
  count(nowMs: number, spanMs: number): void {
    const takes = (this.#block.get("hits") + this.#block.get("misses")) >>> 0;
    const arrivals = (takes - this.#takesSeen) >>> 0;
    this.#takesSeen = takes;
    this.#demand.note(arrivals, nowMs, Math.max(this.#rtt.srttMs, 10) + 10, spanMs);
  }

  /** Adds what another process counted, which tells nothing of how many come now. */
  inherit(counts: PoolCounts): void {
    for (const field of INHERITED) this.#block.add(field, counts[field]);
    this.#takesSeen = (this.#takesSeen + counts.hits + counts.misses) >>> 0;
  }
}
