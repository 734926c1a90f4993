import { CQE_WORDS, io_cqring_offsets, io_uring_cqe, io_uring_params } from "../abi/io_uring.ts";
import type { Memory } from "../memory.ts";

const { user_data, res, flags } = io_uring_cqe;

/**
 * The completion queue, read one entry at a time into fields, so that reading allocates nothing:
 *
 *     for (let n = queue.available; n > 0; n--) { queue.next(); use(queue.userData, queue.result, queue.flags); }
 *     queue.publish();
 *
 * Memory order. Under DEFER_TASKRUN entries are posted by this very thread inside io_uring_enter(), so plain
 * loads would do. Without it other threads of the kernel may post while we read, and the entry must be read
 * after the tail: Atomics.load is an acquire (and more) on any typed array, shared or not, and one per batch
 * costs nothing worth a second way. Atomics.store of the head likewise comes after the reads of the entries.
 */
export class CompletionQueue {
  readonly #control: Int32Array;
  readonly #headAt: number;
  readonly #tailAt: number;
  readonly #mask: number;
  readonly #cqes: Int32Array;
  #head = 0;
  #stash = new Int32Array(0);
  #stashHead = 0;
  #stashTail = 0;
  readonly entries: number;

  /** The entry last read by next(). */
  userData = 0;
  result = 0;
  flags = 0;

  /** Over the mapped ring, with `params` as the kernel filled it. */
  constructor(ring: Memory, params: DataView) {
    const at = (field: number) => params.getUint32(io_uring_params.cq_off + field, true);
    this.entries = params.getUint32(io_uring_params.cq_entries, true);
    this.#control = new Int32Array(ring.buffer);
    this.#headAt = at(io_cqring_offsets.head) >> 2;
    this.#tailAt = at(io_cqring_offsets.tail) >> 2;
    this.#mask = this.entries - 1;
    this.#cqes = new Int32Array(ring.buffer, at(io_cqring_offsets.cqes), this.entries * CQE_WORDS);
  }

  /** How many next() may read now. */
  get available(): number {
    return ((Atomics.load(this.#control, this.#tailAt) - this.#head) | 0) + this.#stashed;
  }

  get #stashed(): number {
    return (this.#stashTail - this.#stashHead) / CQE_WORDS;
  }

  /** Reads the next entry into the fields. Only while `available` is above zero. */
  next(): void {
    let words: Int32Array = this.#stash;
    let at = this.#stashHead;
    if (at < this.#stashTail) {
      this.#stashHead = at + CQE_WORDS;
    } else {
      words = this.#cqes;
      at = (this.#head & this.#mask) * CQE_WORDS;
      this.#head = (this.#head + 1) | 0;
    }
    this.userData = words[at + user_data]!;
    this.result = words[at + res]!;
    this.flags = words[at + flags]!;
  }

  /** Gives the places of the entries read so far back to the kernel. */
  publish(): void {
    Atomics.store(this.#control, this.#headAt, this.#head);
  }

  /**
   * Moves every posted entry to our own memory, where next() finds it first: makes the kernel room when it
   * refuses submissions and the entries cannot be dispatched yet.
   */
  stash(): void {
    const posted = (Atomics.load(this.#control, this.#tailAt) - this.#head) | 0;
    const waiting = this.#stash.subarray(this.#stashHead, this.#stashTail);
    const grown = new Int32Array(waiting.length + posted * CQE_WORDS);
    grown.set(waiting);
    for (let i = 0; i < posted; i++) {
      const at = ((this.#head + i) & this.#mask) * CQE_WORDS;
      grown.set(this.#cqes.subarray(at, at + CQE_WORDS), waiting.length + i * CQE_WORDS);
    }
    this.#stash = grown;
    this.#stashHead = 0;
    this.#stashTail = grown.length;
    this.#head = (this.#head + posted) | 0;
    this.publish();
  }
}
