/**
 * What takers tell the keeper: notices ("look at this entry"), that something changed, and a wake-up if it
 * sleeps. While takes come in a row the keeper only naps for a few ms, and nobody pays for waking it unless
 * half-opens run short; from a sleep the first taker wakes it, and no other pays.
 *
 * Notices are a ring with many writers and one reader: a writer reserves the next place, then stores the entry
 * there; the reader stops at the first empty place and finds the rest next time.
 */
import { wakeEventFd } from "../native/eventfd.ts";
import { NOTICES_MAX } from "./limits.ts";

const SLEEP = 0;
const TOUCHED = 1;
const WRITTEN = 2; // notices ever written, modulo 2^32
const ENDED = 3;
const RING = 16; // a cache line further on
const AWAKE = 0;
const NAPPING = 1;
const ASLEEP = 2;

export class KeeperSignal {
  readonly #words: Int32Array;
  readonly #wakeFd: number;
  #read = 0;

  constructor(buffer: SharedArrayBuffer, wakeFd: number) {
    this.#words = new Int32Array(buffer);
    this.#wakeFd = wakeFd;
  }

  static newBuffer(): SharedArrayBuffer {
    return new SharedArrayBuffer((RING + NOTICES_MAX) * 4);
  }

  /** Takers: the keeper shall look at an entry. touch() tells it so. */
  notify(entry: number): void {
    const place = RING + (Atomics.add(this.#words, WRITTEN, 1) & (NOTICES_MAX - 1));
    if (Atomics.compareExchange(this.#words, place, 0, entry + 1) !== 0) throw new Error("notices overflow");
  }

  /** Takers: something changed. `urgent`: not even a nap may pass. */
  touch(urgent: boolean): void {
    Atomics.store(this.#words, TOUCHED, 1);
    const depth = Atomics.load(this.#words, SLEEP);
    if (depth === AWAKE || (depth === NAPPING && !urgent)) return;
    if (Atomics.exchange(this.#words, SLEEP, AWAKE) !== AWAKE) wakeEventFd(this.#wakeFd);
  }

  /** Keeper: the entry of the oldest notice, or -1. */
  nextNotice(): number {
    const entry = Atomics.exchange(this.#words, RING + this.#read, 0) - 1;
    if (entry >= 0) this.#read = (this.#read + 1) & (NOTICES_MAX - 1);
    return entry;
  }

  /** Keeper: about to sleep until woken. False when there is something to do first. */
  sleep(): boolean {
    Atomics.store(this.#words, SLEEP, ASLEEP);
    if (Atomics.load(this.#words, TOUCHED) === 0) return true;
    this.wakeUp();
    return false;
  }

  /** Keeper: about to nap, for a time so short that changes may wait for its end. */
  nap(): void {
    Atomics.store(this.#words, SLEEP, NAPPING);
  }

  /** Keeper: awake. */
  wakeUp(): void {
    Atomics.store(this.#words, SLEEP, AWAKE);
  }

  /** Keeper: it has given up everything. */
  end(): void {
    Atomics.store(this.#words, ENDED, 1);
    Atomics.notify(this.#words, ENDED);
  }

  /** Owner: blocks until end(), `limitMs` at most. */
  awaitEnd(limitMs: number): void {
    Atomics.wait(this.#words, ENDED, 0, limitMs);
  }

  /** Keeper: whether anything changed since the last call. */
  takeTouched(): boolean {
    return Atomics.exchange(this.#words, TOUCHED, 0) === 1;
  }
}
