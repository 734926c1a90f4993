/**
 * The requests in progress: what a completion needs beyond the number it carries.
 *
 * An entry's index is the user_data of its request. (slot, tag) would fit there, but three things need more:
 * a receive that found no buffer and an accept that ended early are queued again, which takes the descriptor;
 * and completions of one name can differ in kind. Cancelling goes the other way, from (slot, tag) to the
 * index, through a chained hash table. Everything lives in typed arrays: nothing is allocated per request
 * until their number doubles.
 */

export const ACCEPT = 1;
export const RECV = 2;
export const SEND = 3;
export const CONNECT = 4;
export const WAKE = 5;

/** Bits of `state`. */
export const CANCELLED = 1; // cancel() named it: it must not be queued again
export const PATIENT = 2; // a receive that had data the last time it found no buffer
export const PARKED = 4; // in the queue for a buffer
export const BULK = 8; // a receive into a large buffer, as long as there is one
export const MORE = 16; // a send whose last segment waits for the next one

const NONE = -1;

export class RequestTable {
  #capacity = 0;
  #inProgress = 0;
  #kind = new Uint8Array(0);
  #state = new Uint8Array(0);
  #fd = new Int32Array(0);
  #slot = new Int32Array(0);
  #tag = new Int32Array(0);
  /** The next entry of the same hash bucket, or of the list of unused entries. */
  #next = new Int32Array(0);
  #bucket = new Int32Array(0);
  /** The next entry parked behind this one. */
  #behind = new Int32Array(0);
  #unused = NONE;
  #parkedFirst = NONE;
  #parkedLast = NONE;
  #parked = 0;

  /** `capacity` requests before the first growth; rounded up to a power of two. */
  constructor(capacity: number) {
    this.#grow(2 ** Math.ceil(Math.log2(Math.max(capacity, 2))));
  }

  get inProgress(): number {
    return this.#inProgress;
  }

  /** How many entries are parked. */
  get parked(): number {
    return this.#parked;
  }

  kindOf(index: number): number {
    return this.#kind[index]!;
  }

  fdOf(index: number): number {
    return this.#fd[index]!;
  }

  slotOf(index: number): number {
    return this.#slot[index]!;
  }

  tagOf(index: number): number {
    return this.#tag[index]!;
  }

  has(index: number, bits: number): boolean {
    return (this.#state[index]! & bits) !== 0;
  }

  mark(index: number, bits: number): void {
    this.#state[index] = this.#state[index]! | bits;
  }

  unmark(index: number, bits: number): void {
    this.#state[index] = this.#state[index]! & ~bits;
  }

  /** Begins a request; returns its index. */
  open(kind: number, fd: number, slot: number, tag: number): number {
    if (this.#unused === NONE) this.#grow(this.#capacity * 2);
    const index = this.#unused;
    this.#unused = this.#next[index]!;
    this.#kind[index] = kind;
    this.#state[index] = 0;
    this.#fd[index] = fd;
    this.#slot[index] = slot;
    this.#tag[index] = tag;
    this.#link(index);
    this.#inProgress++;
    return index;
  }

  /** Ends a request; its index may be used again at once. */
  close(index: number): void {
    const bucket = this.#bucketOf(this.#slot[index]!, this.#tag[index]!);
    let at = this.#bucket[bucket]!;
    if (at === index) {
      this.#bucket[bucket] = this.#next[index]!;
    } else {
      while (this.#next[at] !== index) at = this.#next[at]!;
      this.#next[at] = this.#next[index]!;
    }
    this.#kind[index] = 0;
    this.#next[index] = this.#unused;
    this.#unused = index;
    this.#inProgress--;
  }

  /** The newest request of this name, or -1. */
  find(slot: number, tag: number): number {
    let at = this.#bucket[this.#bucketOf(slot, tag)]!;
    while (at !== NONE && (this.#slot[at] !== slot || this.#tag[at] !== tag)) at = this.#next[at]!;
    return at;
  }

  /** Puts a request at the end of the queue for a buffer. */
  park(index: number): void {
    this.mark(index, PARKED);
    this.#behind[index] = NONE;
    if (this.#parkedLast === NONE) this.#parkedFirst = index;
    else this.#behind[this.#parkedLast] = index;
    this.#parkedLast = index;
    this.#parked++;
  }

  /** Takes the first request out of the queue for a buffer; -1 when it is empty. */
  unpark(): number {
    const index = this.#parkedFirst;
    if (index === NONE) return NONE;
    this.#parkedFirst = this.#behind[index]!;
    if (this.#parkedFirst === NONE) this.#parkedLast = NONE;
    this.#state[index] = this.#state[index]! & ~PARKED;
    this.#parked--;
    return index;
  }

  #bucketOf(slot: number, tag: number): number {
    const mixed = Math.imul(slot, 0x9e3779b1) ^ Math.imul(tag, 0x85ebca6b);
    return (mixed ^ (mixed >>> 15)) & (this.#capacity - 1);
  }

  #link(index: number): void {
    const bucket = this.#bucketOf(this.#slot[index]!, this.#tag[index]!);
    this.#next[index] = this.#bucket[bucket]!;
    this.#bucket[bucket] = index;
  }

  /** Called when every entry is in use. */
  #grow(capacity: number): void {
    const used = this.#capacity;
    this.#capacity = capacity;
    this.#kind = widen(this.#kind, new Uint8Array(capacity));
    this.#state = widen(this.#state, new Uint8Array(capacity));
    this.#fd = widen(this.#fd, new Int32Array(capacity));
    this.#slot = widen(this.#slot, new Int32Array(capacity));
    this.#tag = widen(this.#tag, new Int32Array(capacity));
    this.#behind = widen(this.#behind, new Int32Array(capacity));
    this.#next = new Int32Array(capacity);
    this.#bucket = new Int32Array(capacity).fill(NONE);
    for (let index = 0; index < used; index++) this.#link(index);
    for (let index = used; index < capacity; index++) {
      this.#next[index] = index + 1 < capacity ? index + 1 : NONE;
    }
    this.#unused = used;
  }
}

function widen<T extends Uint8Array | Int32Array>(old: T, wide: T): T {
  wide.set(old);
  return wide;
}
