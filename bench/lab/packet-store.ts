import { Memory } from "../../native/memory.ts";

/**
 * Room for the packets of one direction: slots of equal size, taken and given back, most recently used first,
 * so that a short queue stays in the processor's cache and a long one is paid for only once it is long.
 */
export class PacketStore {
  readonly slotSize: number;
  readonly #memory: Memory;
  readonly #lengths: Uint32Array;
  readonly #free: Uint32Array;
  #freeCount: number;

  constructor(slots: number, slotSize: number) {
    this.slotSize = slotSize;
    this.#memory = Memory.anonymous(slots * slotSize);
    this.#lengths = new Uint32Array(slots);
    this.#free = Uint32Array.from({ length: slots }, (_, index) => slots - 1 - index);
    this.#freeCount = slots;
  }

  get freeCount(): number {
    return this.#freeCount;
  }

  /** Takes a slot. There must be a free one. */
  take(): number {
    return this.#free[--this.#freeCount]!;
  }

  release(slot: number): void {
    this.#free[this.#freeCount++] = slot;
  }

  /** Where the slot's bytes are, for a system call. */
  addressOf(slot: number): number {
    return this.#memory.address + slot * this.slotSize;
  }

  lengthOf(slot: number): number {
    return this.#lengths[slot]!;
  }

  setLength(slot: number, length: number): void {
    this.#lengths[slot] = length;
  }

  /** The packet in a slot, in place. */
  packet(slot: number): Uint8Array {
    const start = slot * this.slotSize;
    return this.#memory.bytes.subarray(start, start + this.lengthOf(slot));
  }

  /** Puts other bytes into a slot. Throws RangeError when they do not fit. */
  replace(slot: number, bytes: Uint8Array): void {
    if (bytes.length > this.slotSize) {
      throw new RangeError(`a packet of ${bytes.length} bytes does not fit into ${this.slotSize}`);
    }
    this.#memory.bytes.set(bytes, slot * this.slotSize);
    this.setLength(slot, bytes.length);
  }

  close(): void {
    this.#memory.close();
  }
}
