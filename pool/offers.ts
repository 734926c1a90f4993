import type { LiveEntry } from "./live-entry.ts";
import type { PoolBlock } from "./pool-block.ts";

const NO_SLOT = -1;

/**
 * The keeper's hand on a pool's offer slots: which are free, and which entry it put where. A slot is used again
 * in the order it became free, so that offers lie in the order they were made and takers find the oldest first.
 */
export class Offers {
  readonly #block: PoolBlock;
  /** A ring: as many places as slots. */
  readonly #freeSlots: Int32Array;
  #firstFree = 0;
  #freeCount: number;

  constructor(block: PoolBlock) {
    this.#block = block;
    this.#freeSlots = Int32Array.from({ length: block.offers }, (_, slot) => slot);
    this.#freeCount = block.offers;
  }

  /** Offers an entry to takers: from now on it may be theirs at any moment. */
  put(entry: LiveEntry): void {
    if (this.#freeCount === 0) throw new Error("more half-opens than offer slots");
    const slot = this.#freeSlots[this.#firstFree]!;
    this.#firstFree = (this.#firstFree + 1) % this.#freeSlots.length;
    this.#freeCount -= 1;
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
    this.#freeSlots[(this.#firstFree + this.#freeCount) % this.#freeSlots.length] = entry.slot;
    this.#freeCount += 1;
    entry.slot = NO_SLOT;
  }
}
