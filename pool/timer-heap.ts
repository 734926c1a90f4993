/**
 * Deadlines of entries: a binary heap. Nothing is ever removed early; whoever pops a timer compares its
 * deadline with the entry's own and ignores a stale one.
 */
export class TimerHeap {
  readonly #deadlines: number[] = [];
  readonly #ids: number[] = [];

  /** The earliest deadline, or Infinity. */
  get next(): number {
    return this.#deadlines[0] ?? Number.POSITIVE_INFINITY;
  }

  push(deadline: number, id: number): void {
    let at = this.#deadlines.length;
    this.#deadlines.push(deadline);
    this.#ids.push(id);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (this.#deadlines[parent]! <= deadline) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  /** Removes every timer due at `now`, earliest first, and hands it to `fire`, which may push new ones. */
  popDue(now: number, fire: (id: number, deadline: number) => void): void {
    while (this.next <= now) {
      const id = this.#ids[0]!;
      const deadline = this.next;
      this.#removeFirst();
      fire(id, deadline);
    }
  }

  #removeFirst(): void {
    const last = this.#deadlines.length - 1;
    this.#swap(0, last);
    this.#deadlines.pop();
    this.#ids.pop();
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= last) return;
      const right = left + 1;
      const least = right < last && this.#deadlines[right]! < this.#deadlines[left]! ? right : left;
      if (this.#deadlines[at]! <= this.#deadlines[least]!) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #swap(a: number, b: number): void {
    for (const column of [this.#deadlines, this.#ids]) {
      const held = column[a]!;
      column[a] = column[b]!;
      column[b] = held;
    }
  }
}
