/**
 * One pool's share of memory: what takers need to know, what everybody counts, and the offers.
 *
 * An offer slot holds entry + 1, or 0. The keeper stores an entry it offers; whoever swaps the slot back to
 * 0 owns the entry: a taker to use it, the keeper to withdraw it.
 */
import type { Endpoint } from "../native/address.ts";
import type { IntOption } from "../native/repair/image.ts";

/** Words of the header. Counters wrap at 2^32; readers take differences. */
export const BLOCK = {
  paused: 0, // 1: take nothing, connect in the ordinary way
  leaseWindowMs: 1, // an entry may be leased this long after its last SYN-ACK
  cookies: 2, // 1: the upstream answers with SYN cookies, seed ts_recent
  halfOpen: 3, // entries opening or ready
  ready: 4, // offers that wait for a taker
  target: 5,
  rttUs: 6,
  settled: 7, // 1: was filled once, or found unreachable
  oldest: 8, // the slot where the oldest offer may be
  silentFlights: 9, // first flights in a row that nobody acknowledged
  ceiling: 10, // the most entries there may be: the configuration's max, or less since SYNs were dropped
  closed: 11, // 1: nothing is opened for now
  hits: 16,
  misses: 17,
  replays: 18,
  opened: 19,
  refreshed: 20,
  tainted: 21,
  vanished: 22,
  refused: 23,
  released: 24,
  cookieSightings: 25,
  blackholes: 26,
  syns: 27, // sent, repetitions included
} as const;
export type BlockField = keyof typeof BLOCK;
const HEADER_WORDS = 32;

/** What goes on counting in the process that takes over. */
export const INHERITED = [
  "hits",
  "misses",
  "replays",
  "opened",
  "refreshed",
  "tainted",
  "vanished",
  "refused",
  "released",
  "cookieSightings",
  "blackholes",
  "syns",
] as const satisfies readonly BlockField[];
export type PoolCounts = Readonly<Record<(typeof INHERITED)[number], number>>;

/** What another thread needs to use a pool; structured-cloneable. */
export interface PoolShare {
  readonly id: number;
  readonly upstream: string;
  readonly server: Endpoint;
  /** See PoolSpec. */
  readonly source?: string | undefined;
  /** What every socket made of a half-open needs, so that the keeper hears its RSTs. */
  readonly socketOptions: readonly IntOption[];
  readonly max: number;
  /** Added to the clock for our TSvals to this destination, ms modulo 2^32. */
  readonly tsOffset: number;
  readonly buffer: SharedArrayBuffer;
}

export class PoolBlock {
  readonly buffer: SharedArrayBuffer;
  readonly offers: number;
  readonly #words: Int32Array;

  constructor(max: number, buffer = new SharedArrayBuffer((HEADER_WORDS + max) * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.offers = max;
  }

  get(field: BlockField): number {
    return Atomics.load(this.#words, BLOCK[field]) >>> 0;
  }

  set(field: BlockField, value: number): void {
    Atomics.store(this.#words, BLOCK[field], value);
  }

  add(field: BlockField, amount = 1): number {
    return Atomics.add(this.#words, BLOCK[field], amount) + amount;
  }

  /** At most half of what there should be is ready: nothing may wait for the keeper's next look. */
  get isShort(): boolean {
    const target = this.get("target");
    return target > 0 && 2 * this.get("ready") <= target;
  }

  /** The entry in a slot, or -1. */
  offered(slot: number): number {
    return Atomics.load(this.#words, HEADER_WORDS + slot) - 1;
  }

  /** Offers an entry in an empty slot. Counted before, so that "ready" may be too high for a moment but never too low. */
  offer(slot: number, entry: number): void {
    this.add("ready");
    Atomics.store(this.#words, HEADER_WORDS + slot, entry + 1);
  }

  /** True when this call took `entry` out of `slot`: the caller owns it now. */
  claim(slot: number, entry: number): boolean {
    if (Atomics.compareExchange(this.#words, HEADER_WORDS + slot, entry + 1, 0) !== entry + 1) return false;
    this.add("ready", -1);
    return true;
  }
}
