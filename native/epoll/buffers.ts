import { Memory } from "../memory.ts";

/**
 * Receive buffers of one size, last in, first out, so that memory grows with need only. Whose a buffer is, is
 * checked: taking or giving back twice throws.
 */
export class BufferStack {
  readonly size: number;
  readonly count: number;
  readonly memory: Memory;
  readonly #stack: Int32Array;
  readonly #owned: Uint8Array;
  #free: number;

  /** `count` buffers of `size` bytes. Throws RangeError, SyscallError ENOMEM. */
  constructor(count: number, size: number) {
    if (!(Number.isInteger(count) && count > 0)) throw new RangeError(`${count} buffers`);
    if (!(Number.isInteger(size) && size > 0)) throw new RangeError(`buffers of ${size} bytes`);
    this.count = count;
    this.size = size;
    this.memory = Memory.anonymous(count * size);
    this.#stack = Int32Array.from({ length: count }, (_, at) => count - 1 - at);
    this.#owned = new Uint8Array(count);
    this.#free = count;
  }

  get free(): number {
    return this.#free;
  }

  /** A buffer, or -1 when all are taken. */
  take(): number {
    if (this.#free === 0) return -1;
    const id = this.#stack[--this.#free]!;
    this.#owned[id] = 1;
    return id;
  }

  release(id: number): void {
    if (this.#owned[id] !== 1) throw new RangeError(`release of buffer ${id}, which is not taken`);
    this.#owned[id] = 0;
    this.#stack[this.#free++] = id;
  }

  address(id: number): number {
    return this.memory.address + id * this.size;
  }

  bytes(id: number, length: number): Uint8Array {
    return this.memory.bytes.subarray(id * this.size, id * this.size + length);
  }

  close(): void {
    this.memory.close();
  }
}
