/**
 * How takers wake the keeper: a word that says how deep it sleeps and an eventfd. While takes come in a row it
 * only naps for a few ms, and nobody pays for waking it unless half-opens run short; from a sleep the first
 * taker wakes it, and no other pays.
 */
import { wakeEventFd } from "../native/eventfd.ts";

const SLEEP = 0;
const TOUCHED = 1;
const WORDS = 2;
const AWAKE = 0;
const NAPPING = 1;
const ASLEEP = 2;

export class KeeperSignal {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #wakeFd: number;

  constructor(buffer: SharedArrayBuffer, wakeFd: number) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#wakeFd = wakeFd;
  }

  static newBuffer(): SharedArrayBuffer {
    return new SharedArrayBuffer(WORDS * 4);
  }

  /** Takers: something changed. `urgent`: not even a nap may pass. */
  touch(urgent: boolean): void {
    Atomics.store(this.#words, TOUCHED, 1);
    const depth = Atomics.load(this.#words, SLEEP);
    if (depth === AWAKE || (depth === NAPPING && !urgent)) return;
    if (Atomics.exchange(this.#words, SLEEP, AWAKE) !== AWAKE) wakeEventFd(this.#wakeFd);
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

  /** Keeper: whether anything changed since the last call. */
  takeTouched(): boolean {
    return Atomics.exchange(this.#words, TOUCHED, 0) === 1;
  }
}
