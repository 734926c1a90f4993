/**
 * Packets waiting for their time, as slot numbers. Those in order go through a ring, where adding and taking
 * costs the same however many wait; the few that stand outside the order (held back, delayed by a filter) go
 * through a binary heap. Whichever head is due first leaves first; of two due together, the one that came first.
 *
 * All memory is made once. The owner sees to it that no more than `capacity` slots wait.
 */
export class PacketQueue {
  readonly #dueMs: Float64Array; // by slot
  readonly #arrival: Float64Array; // by slot; doubles count exactly to 2^53
  #arrivals = 0;
  readonly #ring: Uint32Array;
  #ringHead = 0;
  #ringCount = 0;
  #ringTailDueMs = Number.NEGATIVE_INFINITY;
  readonly #heap: Uint32Array;
  #heapCount = 0;

  constructor(capacity: number) {
    this.#dueMs = new Float64Array(capacity);
    this.#arrival = new Float64Array(capacity);
    this.#ring = new Uint32Array(capacity);
    this.#heap = new Uint32Array(capacity);
  }

  get count(): number {
    return this.#ringCount + this.#heapCount;
  }

  /** When the next packet is due; Infinity when none waits. */
  get nextDueMs(): number {
    if (this.count === 0) return Number.POSITIVE_INFINITY;
    return this.#dueMs[this.#head()]!;
  }

  /** Adds a slot. `inOrder` says that no packet in order that is already here is due later; if one is, it waits aside. */
  push(slot: number, dueMs: number, inOrder: boolean): void {
    this.#dueMs[slot] = dueMs;
    this.#arrival[slot] = this.#arrivals++;
    if (inOrder && (this.#ringCount === 0 || dueMs >= this.#ringTailDueMs)) {
      this.#ring[(this.#ringHead + this.#ringCount++) % this.#ring.length] = slot;
      this.#ringTailDueMs = dueMs;
    } else {
      this.#siftUp(this.#heapCount++, slot);
    }
  }

  /** Takes the slot that is due first. The queue must not be empty. */
  pop(): number {
    const slot = this.#head();
    if (this.#ringCount > 0 && this.#ring[this.#ringHead] === slot) {
      this.#ringHead = (this.#ringHead + 1) % this.#ring.length;
      this.#ringCount--;
    } else {
      const last = this.#heap[--this.#heapCount]!;
      if (this.#heapCount > 0) this.#siftDown(last);
    }
    return slot;
  }

  #head(): number {
    if (this.#heapCount === 0) return this.#ring[this.#ringHead]!;
    const heap = this.#heap[0]!;
    if (this.#ringCount === 0) return heap;
    const ring = this.#ring[this.#ringHead]!;
    return this.#precedes(ring, heap) ? ring : heap;
  }

  #precedes(a: number, b: number): boolean {
    const difference = this.#dueMs[a]! - this.#dueMs[b]!;
    return difference < 0 || (difference === 0 && this.#arrival[a]! < this.#arrival[b]!);
  }

  #siftUp(from: number, slot: number): void {
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = this.#heap[parent]!;
      if (!this.#precedes(slot, above)) break;
      this.#heap[index] = above;
      index = parent;
    }
    this.#heap[index] = slot;
  }

  #siftDown(slot: number): void {
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= this.#heapCount) break;
      if (child + 1 < this.#heapCount && this.#precedes(this.#heap[child + 1]!, this.#heap[child]!)) child++;
      if (!this.#precedes(this.#heap[child]!, slot)) break;
      this.#heap[index] = this.#heap[child]!;
      index = child;
    }
    this.#heap[index] = slot;
  }
}
