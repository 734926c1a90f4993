/**
 * The line of an upstream: who waits because each of its servers has its maxConnections. It belongs to no server, so
 * that a place at any of them serves whoever came first, and a server may be removed while sessions wait.
 *
 *   stand() ──▶ in line ──called: seek() finds a place──▶ out
 *                  └──────────────leave()──────────────▶ out
 *
 * Each thread keeps its own in order; between threads turns go round. Whoever gives up a place calls one thread, by
 * its eventfd and by Atomics.notify(). No call is lost: stand() looks for a place once more after it has joined, and a
 * place is free before anybody looks at the line (Atomics are sequentially consistent, one of them sees the other); a
 * thread that needs no more than it got calls the next.
 */
import { wakeEventFd } from "../../native/eventfd.ts";

const HEADER = { length: 0, turn: 1, refused: 2 } as const;
const HEADER_WORDS = 4;
/** Behind it two words for each thread: how many of its own wait, how often it was called. */
const THREAD = { length: 0, calls: 1 } as const;
const THREAD_WORDS = 2;
const NONE = -1;

/** What a thread needs to use a line; structured-cloneable. */
export interface LineShare {
  readonly words: SharedArrayBuffer;
  /** One Int32 per thread: the eventfd that wakes it; 0 or less for one that awaits called(). */
  readonly wakeFds: SharedArrayBuffer;
}

/** Somebody in line. */
export interface Waiter {
  /** A place may be free. False: there is none, it stays first in line. True: it found one, or no longer needs it. */
  seek(nowMs: number): boolean;
}

export class Line {
  readonly #words: Int32Array;
  readonly #wakeFds: Int32Array;
  readonly #thread: number;
  readonly #waiters: Waiter[] = [];

  /** The line as thread number `thread` sees it; -1 for one that never stands in it. */
  constructor({ words, wakeFds }: LineShare, thread = NONE) {
    this.#words = new Int32Array(words);
    this.#wakeFds = new Int32Array(wakeFds);
    this.#thread = thread;
  }

  /** A new line for the threads that `wakeFds` names. */
  static create(wakeFds: SharedArrayBuffer): LineShare {
    const threads = wakeFds.byteLength / 4;
    return { words: new SharedArrayBuffer((HEADER_WORDS + THREAD_WORDS * threads) * 4), wakeFds };
  }

  /** How many wait, in all threads. */
  get length(): number {
    return Atomics.load(this.#words, HEADER.length);
  }

  /** How many found the line too long. */
  get refused(): number {
    return Atomics.load(this.#words, HEADER.refused) >>> 0;
  }

  /** Joins, unless `max` wait already; then serve() must follow at once. False: refused. */
  stand(waiter: Waiter, max: number): boolean {
    for (;;) {
      const { length } = this;
      if (length >= max) {
        Atomics.add(this.#words, HEADER.refused, 1);
        return false;
      }
      if (Atomics.compareExchange(this.#words, HEADER.length, length, length + 1) === length) break;
    }
    Atomics.add(this.#words, this.#at(this.#thread, "length"), 1);
    this.#waiters.push(waiter);
    return true;
  }

  /** Leaves without a place. */
  leave(waiter: Waiter): void {
    const at = this.#waiters.indexOf(waiter);
    if (at < 0) return;
    this.#waiters.splice(at, 1);
    this.#left();
  }

  /** Lets this thread's look for places, the first first, until one finds none. */
  serve(nowMs: number): void {
    let first = this.#waiters[0];
    while (first?.seek(nowMs)) {
      this.leave(first);
      first = this.#waiters[0];
    }
  }

  /** A place is free: calls the thread whose turn it is among those with somebody in line. */
  call(): void {
    if (this.length === 0) return;
    const threads = this.#wakeFds.length;
    const turn = Atomics.add(this.#words, HEADER.turn, 1) >>> 0;
    for (let step = 0; step < threads; step++) {
      if (this.#wake((turn + step) % threads)) return;
    }
  }

  /** Several places may be free. */
  callAll(): void {
    for (let thread = 0; thread < this.#wakeFds.length; thread++) this.#wake(thread);
  }

  /** For a thread that sleeps in Node's event loop: resolves when it has been called since; serve() then. */
  async called(): Promise<void> {
    const at = this.#at(this.#thread, "calls");
    await Atomics.waitAsync(this.#words, at, Atomics.load(this.#words, at)).value;
  }

  /** True when the thread has somebody in line, who is told. */
  #wake(thread: number): boolean {
    if (Atomics.load(this.#words, this.#at(thread, "length")) === 0) return false;
    const calls = this.#at(thread, "calls");
    Atomics.add(this.#words, calls, 1);
    Atomics.notify(this.#words, calls);
    const wakeFd = this.#wakeFds[thread]!;
    if (wakeFd > 0) wakeEventFd(wakeFd);
    return true;
  }

  /** Its last one may have left between a call and now, or the place be one of two: it is for the next thread then. */
  #left(): void {
    Atomics.sub(this.#words, this.#at(this.#thread, "length"), 1);
    Atomics.sub(this.#words, HEADER.length, 1);
    if (this.#waiters.length === 0) this.call();
  }

  #at(thread: number, field: keyof typeof THREAD): number {
    return HEADER_WORDS + THREAD_WORDS * thread + THREAD[field];
  }
}
