/**
 * How takers wake the keeper: a word that says "asleep" and an eventfd. Only the first of many takers pays
 * for the system call, and none while the keeper is awake.
 */
import { wakeEventFd } from "../native/eventfd.ts";

const ASLEEP = 0;
const TOUCHED = 1;
const WORDS = 2;

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

  /** Takers: something changed. */
  touch(): void {
    Atomics.store(this.#words, TOUCHED, 1);
    if (Atomics.exchange(this.#words, ASLEEP, 0) === 1) wakeEventFd(this.#wakeFd);
  }

  /** Keeper: about to sleep. False when there is something to do first. */
  sleep(): boolean {
    Atomics.store(this.#words, ASLEEP, 1);
    if (Atomics.load(this.#words, TOUCHED) === 0) return true;
    this.wakeUp();
    return false;
  }

  /** Keeper: awake. */
  wakeUp(): void {
    Atomics.store(this.#words, ASLEEP, 0);
  }

  /** Keeper: whether anything changed since the last call. */
  takeTouched(): boolean {
    return Atomics.exchange(this.#words, TOUCHED, 0) === 1;
  }
}
