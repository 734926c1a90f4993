import type { ReceiveBuffers } from "./driver.ts";

/** Buffers of one size, as either driver has them. */
interface BuffersOfOneSize extends ReceiveBuffers {
  readonly size: number;
  release(id: number): void;
  close(): void;
}

/**
 * What a driver receives into: many buffers of the ordinary size, and maybe some large ones for bulk, whose ids follow
 * theirs. Owns both.
 */
export class DriverBuffers<Buffers extends BuffersOfOneSize> implements ReceiveBuffers {
  readonly ordinary: Buffers;
  readonly bulk: Buffers | undefined;

  constructor(ordinary: Buffers, bulk: Buffers | undefined) {
    this.ordinary = ordinary;
    this.bulk = bulk;
  }

  get count(): number {
    return this.ordinary.count;
  }

  /** The id among all of large buffer `id`. */
  bulkId(id: number): number {
    return this.count + id;
  }

  sizeOf(id: number): number {
    return this.#of(id).size;
  }

  address(id: number): number {
    return this.#of(id).address(this.#at(id));
  }

  bytes(id: number, length: number): Uint8Array {
    return this.#of(id).bytes(this.#at(id), length);
  }

  /** Gives a buffer back. Throws RangeError when it is not taken. */
  release(id: number): void {
    this.#of(id).release(this.#at(id));
  }

  close(): void {
    this.ordinary.close();
    this.bulk?.close();
  }

  #isBulk(id: number): boolean {
    return id >= this.count && this.bulk !== undefined;
  }

  #of(id: number): Buffers {
    return this.#isBulk(id) ? this.bulk! : this.ordinary;
  }

  #at(id: number): number {
    return this.#isBulk(id) ? id - this.count : id;
  }
}
