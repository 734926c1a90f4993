import type { LiveEntry } from "./destination.ts";
import type { PoolBlock } from "./pool-block.ts";

const NO_SLOT = -1;

/** The keeper's hand on a pool's offer slots: which are free, and which entry it put where. */
export class Offers {
  readonly #block: PoolBlock;
  readonly #freeSlots: number[] = [];

  constructor(block: PoolBlock) {
    this.#block = block;
    for (let slot = block.offers - 1; slot >= 0; slot--) this.#freeSlots.push(slot);
  }

  /** Offers an entry to takers: from now on it may be theirs at any moment. */
  put(entry: LiveEntry): void {
    const slot = this.#freeSlots.pop();
    if (slot === undefined) throw new Error("more half-opens than offer slots");
    entry.slot = slot;
    this.#block.offer(slot, entry.index);
  }

  /** Takes an offer back. True: ours, or it was not offered. False: it is a taker's now. */
  withdraw(entry: LiveEntry): boolean {
    if (entry.slot === NO_SLOT) return true;
    if (!this.#block.claim(entry.slot, entry.index)) return false;
    this.#free(entry);
    return true;
  }

  wasTaken(entry: LiveEntry): boolean {
    return entry.slot !== NO_SLOT && this.#block.offered(entry.slot) !== entry.index;
  }

  /** The slot of an entry that was taken is free again. */
  settle(entry: LiveEntry): void {
    this.#free(entry);
  }

  #free(entry: LiveEntry): void {
    this.#freeSlots.push(entry.slot);
    entry.slot = NO_SLOT;
  }
}
