/**
 * One deadline for each entry: a hashed wheel (Varghese and Lauck 1987, scheme 6). A bucket is a millisecond of
 * time modulo the wheel, a doubly linked list of the entries whose deadline falls into it; those of a later turn
 * stay where they are. Setting, moving and cancelling a timer cost the same whatever their number.
 */
const BUCKETS = 1024; // a power of two
const NONE = -1;

export class TimerWheel {
  readonly #first = new Int32Array(BUCKETS).fill(NONE);
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** Whole ms, rounded up, so that a timer never fires early. 0: not set. */
  readonly #deadlines: Float64Array;
  /** Every bucket before this ms has been looked at. */
  #turnedToMs: number;
  #count = 0;

  /** For entries 0 .. `capacity` - 1; memory is touched as they are used. Begins at `nowMs`. */
  constructor(capacity: number, nowMs: number) {
    this.#next = new Int32Array(capacity);
    this.#previous = new Int32Array(capacity);
    this.#deadlines = new Float64Array(capacity);
    this.#turnedToMs = Math.floor(nowMs);
  }

  /** The earliest deadline, or a turn from now if it is later. Infinity: no timers. */
  get next(): number {
    if (this.#count === 0) return Number.POSITIVE_INFINITY;
    const turned = this.#turnedToMs + BUCKETS;
    let at = this.#turnedToMs;
    while (at < turned && this.#firstDue(at) === NONE) at += 1;
    return at;
  }

  /** Sets the timer of `id`, in place of one it had. */
  set(id: number, deadlineMs: number): void {
    this.cancel(id);
    const deadline = Math.max(Math.ceil(deadlineMs), this.#turnedToMs, 1);
    const bucket = deadline & (BUCKETS - 1);
    const after = this.#first[bucket]!;
    this.#deadlines[id] = deadline;
    this.#next[id] = after;
    this.#previous[id] = NONE;
    if (after !== NONE) this.#previous[after] = id;
    this.#first[bucket] = id;
    this.#count += 1;
  }

  cancel(id: number): void {
    const deadline = this.#deadlines[id]!;
    if (deadline === 0) return;
    const next = this.#next[id]!;
    const previous = this.#previous[id]!;
    if (previous === NONE) this.#first[deadline & (BUCKETS - 1)] = next;
    else this.#next[previous] = next;
    if (next !== NONE) this.#previous[next] = previous;
    this.#deadlines[id] = 0;
    this.#count -= 1;
  }

  /** Ends every timer due at `nowMs`, a ms after the other, and hands it to `fire`, which may set new ones. */
  popDue(nowMs: number, fire: (id: number) => void): void {
    const due = Math.floor(nowMs);
    // After a long sleep one turn shows every bucket.
    this.#turnedToMs = Math.max(this.#turnedToMs, due - BUCKETS + 1);
    while (this.#turnedToMs <= due) {
      const id = this.#firstDue(this.#turnedToMs, due);
      if (id === NONE) {
        this.#turnedToMs += 1;
      } else {
        this.cancel(id);
        fire(id);
      }
    }
  }

  /** Of the bucket of `atMs`, a timer that is due by `dueMs`. */
  #firstDue(atMs: number, dueMs = atMs): number {
    for (let id = this.#first[atMs & (BUCKETS - 1)]!; id !== NONE; id = this.#next[id]!) {
      if (this.#deadlines[id]! <= dueMs) return id;
    }
    return NONE;
  }
}
