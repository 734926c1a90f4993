/**
 * A limit that threads share. Whoever finds no room stands in line; whoever leaves hands the room to the next
 * thread in line and wakes it, so that nobody polls and nobody is passed over.
 *
 *   enter() ──room──▶ inside ──leave()──▶ outside
 *      └──none──▶ in line ──another left──▶ granted ──redeem()──▶ inside
 *                    └──────abandon()──────────┴──▶ outside
 *
 * There is no lock. No wake-up is lost, because enter() stands in line before it looks for room once more, and
 * leave() makes room before it looks at the line: Atomics are sequentially consistent, so one of them sees the other.
 */
import { wakeEventFd } from "../native/eventfd.ts";

/** Words of the header. */
const HEADER = { limit: 0, used: 1, lent: 2, cost: 3, inLine: 4, turn: 5, listening: 6 } as const;
const HEADER_WORDS = 8;
/** Behind it three words for each thread: how many of its own stand in line, how many were let in, 1 if it listens. */
const THREAD = { inLine: 0, granted: 1, listening: 2 } as const;
const THREAD_WORDS = 3;
const NONE = -1;

/** What a thread needs to use a gate; structured-cloneable. */
export interface GateShare {
  readonly words: SharedArrayBuffer;
  /** One Int32 per thread: the eventfd that wakes it. */
  readonly wakeFds: SharedArrayBuffer;
}

export class Gate {
  readonly #words: Int32Array;
  readonly #wakeFds: Int32Array;
  readonly #thread: number;

  /** The gate as thread number `thread` sees it; -1 for one that never stands in line. */
  constructor({ words, wakeFds }: GateShare, thread = NONE) {
    this.#words = new Int32Array(words);
    this.#wakeFds = new Int32Array(wakeFds);
    this.#thread = thread;
  }

  /** A new gate for the threads that `wakeFds` names. Who enters takes `cost` of `limit`. */
  static create(wakeFds: SharedArrayBuffer, limit: number, cost = 1): GateShare {
    const threads = wakeFds.byteLength / 4;
    const words = new SharedArrayBuffer((HEADER_WORDS + THREAD_WORDS * threads) * 4);
    const view = new Int32Array(words);
    view[HEADER.limit] = limit;
    view[HEADER.cost] = cost;
    return { words, wakeFds };
  }

  /** How many are inside. */
  get inside(): number {
    return (this.#get(HEADER.used) - this.#get(HEADER.lent)) / this.#get(HEADER.cost);
  }

  /** True when more than half of the limit is used: who can do with less should. */
  get isScarce(): boolean {
    return 2 * this.#get(HEADER.used) > this.#get(HEADER.limit);
  }

  /** Lets more in, or fewer; who is inside stays. */
  set limit(limit: number) {
    Atomics.store(this.#words, HEADER.limit, limit);
    this.#serve();
  }

  /** True: inside. False: in line, until a wake-up and redeem(). */
  enter(): boolean {
    if (this.#get(HEADER.inLine) === 0 && this.#take(this.#get(HEADER.cost))) return true;
    this.#standInLine();
    this.#serve();
    return this.redeem();
  }

  /** Inside whatever the limit says: for one that comes from elsewhere and is there already. */
  admit(): void {
    Atomics.add(this.#words, HEADER.used, this.#get(HEADER.cost));
  }

  /** Has this thread woken when the next one leaves, whatever room there is. False: nobody is inside to leave. */
  listen(): boolean {
    const at = this.#at(this.#thread, THREAD.listening);
    if (Atomics.exchange(this.#words, at, 1) === 0) Atomics.add(this.#words, HEADER.listening, 1);
    return this.inside > 0;
  }

  /** True when one of this thread's in line was let in since. */
  redeem(): boolean {
    return this.#decrement(this.#at(this.#thread, THREAD.granted));
  }

  leave(): void {
    this.#free(this.#get(HEADER.cost));
    if (this.#get(HEADER.listening) === 0) return;
    for (let thread = 0; thread < this.#wakeFds.length; thread++) {
      if (Atomics.exchange(this.#words, this.#at(thread, THREAD.listening), 0) === 0) continue;
      Atomics.sub(this.#words, HEADER.listening, 1);
      wakeEventFd(this.#wakeFds[thread]!);
    }
  }

  /** One of this thread's leaves the line. False: it had been let in meanwhile and is inside now. */
  abandon(): boolean {
    for (;;) {
      if (this.#decrement(this.#at(this.#thread, THREAD.inLine))) break;
      if (this.redeem()) return false;
    }
    Atomics.sub(this.#words, HEADER.inLine, 1);
    return true;
  }

  /** Takes one unit, of a third of the limit at most, for something that never stands in line. */
  borrow(): boolean {
    if (3 * (this.#get(HEADER.lent) + 1) > this.#get(HEADER.limit) || !this.#take(1)) return false;
    Atomics.add(this.#words, HEADER.lent, 1);
    return true;
  }

  giveBack(): void {
    Atomics.sub(this.#words, HEADER.lent, 1);
    this.#free(1);
  }

  #get(field: number): number {
    return Atomics.load(this.#words, field);
  }

  #at(thread: number, field: number): number {
    return HEADER_WORDS + THREAD_WORDS * thread + field;
  }

  #take(amount: number): boolean {
    for (;;) {
      const used = this.#get(HEADER.used);
      if (used + amount > this.#get(HEADER.limit)) return false;
      if (Atomics.compareExchange(this.#words, HEADER.used, used, used + amount) === used) return true;
    }
  }

  #free(amount: number): void {
    Atomics.sub(this.#words, HEADER.used, amount);
    this.#serve();
  }

  #standInLine(): void {
    Atomics.add(this.#words, this.#at(this.#thread, THREAD.inLine), 1);
    Atomics.add(this.#words, HEADER.inLine, 1);
  }

  /** Lets in as many of those in line as there is room for, one thread after the other. */
  #serve(): void {
    const cost = this.#get(HEADER.cost);
    while (this.#get(HEADER.inLine) > 0 && this.#take(cost)) {
      const thread = this.#next();
      if (thread === NONE) {
        // Gone meanwhile. Whoever came while we held the room found none: look again.
        Atomics.sub(this.#words, HEADER.used, cost);
        continue;
      }
      Atomics.add(this.#words, this.#at(thread, THREAD.granted), 1);
      wakeEventFd(this.#wakeFds[thread]!);
    }
  }

  /** The thread whose turn it is among those in line, now out of it. */
  #next(): number {
    const threads = this.#wakeFds.length;
    const turn = Atomics.add(this.#words, HEADER.turn, 1) >>> 0;
    for (let step = 0; step < threads; step++) {
      const thread = (turn + step) % threads;
      if (!this.#decrement(this.#at(thread, THREAD.inLine))) continue;
      Atomics.sub(this.#words, HEADER.inLine, 1);
      return thread;
    }
    return NONE;
  }

  /** Takes one off a count that is above zero. */
  #decrement(at: number): boolean {
    for (;;) {
      const count = Atomics.load(this.#words, at);
      if (count === 0) return false;
      if (Atomics.compareExchange(this.#words, at, count, count - 1) === count) return true;
    }
  }
}
