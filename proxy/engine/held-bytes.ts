import { Memory } from "../../native/memory.ts";
import type { Driver } from "./driver.ts";
import { BUFFER_SIZE } from "./limits.ts";

const NONE = -1;

/**
 * Bytes received from one side and not yet sent to the other: a buffer of the driver, or memory of their own when
 * they came with the record of a session. Owns either until the last byte is gone.
 */
export class HeldBytes {
  readonly #driver: Driver;
  #bufferId = NONE;
  #memory: Memory | undefined;
  #start = 0;
  #end = 0;
  #isFollowed = false;

  constructor(driver: Driver) {
    this.#driver = driver;
  }

  get isEmpty(): boolean {
    return this.#start === this.#end;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** Where they lie, for send(). */
  get address(): number {
    const at = this.#memory ? this.#memory.address : this.#driver.buffers.address(this.#bufferId);
    return at + this.#start;
  }

  /** True when the last receive filled its buffer: more is likely to wait. */
  get wasFull(): boolean {
    return this.#end >= BUFFER_SIZE;
  }

  /** True when more of them or their end was there already, so that the next receive does not wait. */
  get isFollowed(): boolean {
    return this.#isFollowed;
  }

  /** Takes over a buffer that a receive filled. */
  hold(bufferId: number, length: number, isFollowed = false): void {
    this.#bufferId = bufferId;
    this.#isFollowed = isFollowed;
    this.#start = 0;
    this.#end = length;
  }

  /** Copies bytes that another session held. */
  put(bytes: Uint8Array): void {
    this.#start = 0;
    this.#end = bytes.length;
    this.#isFollowed = false;
    if (bytes.length === 0) return;
    this.#memory = Memory.anonymous(bytes.length);
    this.#memory.bytes.set(bytes);
  }

  /** The first `count` were sent. */
  drop(count: number): void {
    this.#start += count;
    if (this.#start === this.#end) this.#release();
  }

  clear(): void {
    this.#start = 0;
    this.#end = 0;
    this.#release();
  }

  /** What is left; a view, until something is dropped. */
  view(): Uint8Array {
    if (this.isEmpty) return new Uint8Array();
    const all = this.#memory?.bytes ?? this.#driver.buffers.bytes(this.#bufferId, this.#end);
    return all.subarray(this.#start, this.#end);
  }

  /** A copy of what is left. */
  copy(): Uint8Array {
    return this.view().slice();
  }

  #release(): void {
    if (this.#bufferId !== NONE) this.#driver.release(this.#bufferId);
    this.#bufferId = NONE;
    this.#memory?.close();
    this.#memory = undefined;
  }
}
