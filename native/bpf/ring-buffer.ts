/**
 * BPF_MAP_TYPE_RINGBUF as its reader sees it: records that programs on any processor wrote, in memory both share.
 * Read Documentation/bpf/ringbuf.rst first.
 */
import * as abi from "../abi/bpf.ts";
import type { Fd } from "../fd.ts";
import { Memory } from "../memory.ts";
import { createMap } from "./objects.ts";

const PAGE_SIZE = 4096;

/** A record's bytes are `length` bytes of the ring's `view` at `at`, valid during the call. */
export type RecordHandler = (at: number, length: number) => void;

/** `size` bytes, a power of two and whole pages. Throws SyscallError as createMap(). */
export function createRing(name: string, size: number): Fd {
  const type = abi.BPF_MAP_TYPE_RINGBUF;
  return createMap({ name, type, keySize: 0, valueSize: 0, entries: size, flags: 0 });
}

export class RingBuffer {
  /** The map, for programs; readable when records wait. */
  readonly fd: Fd;
  /** The records: every one in one piece, since the kernel maps the data twice in a row. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #consumer: Memory;
  readonly #producer: Memory;
  readonly #consumed: BigUint64Array;
  readonly #produced: Int32Array;
  readonly #words: Int32Array;
  readonly #mask: number;
  #position = 0;

  /** Of a map that createRing() made with this `size`, and which is its own from now on. */
  constructor(map: Fd, size: number) {
    this.fd = map;
    this.#mask = size - 1;
    this.#consumer = Memory.shared(this.fd.number, PAGE_SIZE, 0);
    this.#producer = Memory.sharedReadOnly(this.fd.number, PAGE_SIZE + 2 * size, PAGE_SIZE);
    this.#consumed = new BigUint64Array(this.#consumer.buffer, 0, 1);
    this.#produced = new Int32Array(this.#producer.buffer, 0, 1);
    this.bytes = this.#producer.bytes.subarray(PAGE_SIZE);
    this.view = new DataView(this.#producer.buffer, PAGE_SIZE);
    this.#words = new Int32Array(this.#producer.buffer, PAGE_SIZE);
  }

  /** Hands every whole record to `handle`, oldest first, and frees their room. Returns how many. */
  drain(handle: RecordHandler): number {
    let count = 0;
    const from = this.#position;
    // Positions modulo 2^32 will do: the ring is smaller.
    for (const produced = Atomics.load(this.#produced, 0); (this.#position | 0) !== produced; ) {
      const at = this.#position & this.#mask;
      const header = Atomics.load(this.#words, at >>> 2) >>> 0;
      if (header >= abi.BPF_RINGBUF_BUSY_BIT) break; // being written; its writer will wake us
      const length = header & ~abi.BPF_RINGBUF_DISCARD_BIT;
      if (length === header) {
        handle(at + abi.BPF_RINGBUF_HDR_SZ, length);
        count += 1;
      }
      this.#position += (abi.BPF_RINGBUF_HDR_SZ + length + 7) & ~7;
    }
    if (this.#position !== from) Atomics.store(this.#consumed, 0, BigInt(this.#position));
    return count;
  }

  close(): void {
    this.#consumer.close();
    this.#producer.close();
    this.fd.close();
  }
}
