import { EINVAL } from "../abi/errno.ts";
import {
  IO_URING_BUF_REG_SIZE,
  IO_URING_BUF_RING_TAIL,
  IO_URING_BUF_SIZE,
  IORING_MAX_PBUF_ENTRIES,
  IORING_REGISTER_PBUF_RING,
  io_uring_buf,
  io_uring_buf_reg,
  SYS_io_uring_register,
} from "../abi/io_uring.ts";
import { lastErrno } from "../errno.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { missingFeatures } from "./setup.ts";
import { explainRefusal, readIoUringDisabled } from "./unavailable.ts";

const WORDS = IO_URING_BUF_SIZE >> 2;

/** Where a buffer is: for the kernel to take (in the ring, or next in the stash), or with the caller. */
const FREE = 0;
const OWNED = 1;

/**
 * Receive buffers of one size: equal pieces of one memory, offered to the kernel through a provided-buffer ring
 * (io_uring_register_buf_ring(3)), from which a receive takes one only when it has data.
 *
 * The kernel takes them first in, first out, so all that are in the ring get touched in turn. Only `keep` are
 * in it at a time; the others wait in a stash, last in, first out, so that memory grows with need only.
 *
 * The kernel reads our tail with an acquire inside io_uring_enter(), on this thread; the atomic store makes
 * the entry visible before it in any case.
 */
export class BufferRing {
  readonly memory: Memory;
  readonly size: number;
  readonly count: number;
  readonly group: number;
  readonly #ring: Memory;
  readonly #words: Int32Array;
  readonly #tails: Uint16Array;
  readonly #mask: number;
  readonly #owner: Uint8Array;
  readonly #keep: number;
  readonly #stash: Uint16Array;
  #stashed = 0;
  #tail = 0;
  #offered = 0;

  /**
   * Registers `count` buffers (1 .. 32768) of `size` bytes as `group`, `keep` of them in the ring at a time.
   * The memory is faulted in as it is used. Throws RingUnavailableError without IORING_REGISTER_PBUF_RING or memory, RangeError for the sizes.
   */
  constructor(ringFd: number, group: number, count: number, size: number, keep = count) {
    if (!(Number.isInteger(count) && count > 0 && count <= IORING_MAX_PBUF_ENTRIES)) {
      throw new RangeError(`${count} buffers: 1 to ${IORING_MAX_PBUF_ENTRIES} are possible`);
    }
    if (!(Number.isInteger(size) && size > 0 && size <= 0x4000_0000)) {
      throw new RangeError(`buffers of ${size} bytes: 1 to 2^30 are possible`);
    }
    if (!(Number.isInteger(keep) && keep > 0 && keep <= count)) {
      throw new RangeError(`${keep} of ${count} buffers in the ring: 1 to ${count} are possible`);
    }
    const entries = 2 ** Math.ceil(Math.log2(keep));
    this.group = group;
    this.count = count;
    this.size = size;
    this.#keep = keep;
    this.#stash = new Uint16Array(count);
    this.#mask = entries - 1;
    this.#owner = new Uint8Array(count).fill(OWNED);
    this.#ring = Memory.anonymous(entries * IO_URING_BUF_SIZE);
    this.#words = new Int32Array(this.#ring.buffer);
    this.#tails = new Uint16Array(this.#ring.buffer);
    const errno = register(ringFd, this.#ring.address, entries, group);
    if (errno !== 0) {
      this.#ring.close();
      if (errno === EINVAL) throw missingFeatures(["IORING_REGISTER_PBUF_RING"]);
      throw explainRefusal("io_uring_register(IORING_REGISTER_PBUF_RING)", errno, readIoUringDisabled());
    }
    this.memory = Memory.anonymous(count * size);
    for (let id = 0; id < keep; id++) this.release(id);
    for (let id = count - 1; id >= keep; id--) this.release(id);
  }

  /** How many buffers the kernel may still take, as far as the completions read so far tell. */
  get free(): number {
    return this.#offered + this.#stashed;
  }

  /** Where a buffer lies. */
  address(id: number): number {
    return this.memory.address + id * this.size;
  }

  /** The first `length` bytes of a buffer. */
  bytes(id: number, length: number): Uint8Array {
    return this.memory.bytes.subarray(id * this.size, id * this.size + length);
  }

  /** Notes that a completion handed over this buffer. */
  take(id: number): void {
    if (this.#owner[id] !== FREE) throw new Error(`the kernel handed over buffer ${id} twice`);
    this.#owner[id] = OWNED;
    this.#offered--;
    if (this.#stashed > 0) this.#offer(this.#stash[--this.#stashed]!);
  }

  /** Offers a buffer to the kernel again. Throws RangeError when the kernel has it already. */
  release(id: number): void {
    if (this.#owner[id] !== OWNED) throw new RangeError(`release of buffer ${id}, which is not taken`);
    this.#owner[id] = FREE;
    if (this.#offered < this.#keep) this.#offer(id);
    else this.#stash[this.#stashed++] = id;
  }

  #offer(id: number): void {
    this.#offered++;
    const at = (this.#tail & this.#mask) * WORDS;
    const address = this.address(id);
    this.#words[at] = address | 0;
    this.#words[at + 1] = (address / 2 ** 32) | 0;
    this.#words[at + io_uring_buf.len / 4] = this.size;
    this.#tails[at * 2 + io_uring_buf.bid / 2] = id;
    this.#tail = (this.#tail + 1) & 0xffff;
    Atomics.store(this.#tails, IO_URING_BUF_RING_TAIL / 2, this.#tail);
  }

  /** Frees both memories. Only after the ring that they are registered with is closed. */
  close(): void {
    this.#ring.close();
    this.memory.close();
  }
}

/** Registers the ring; returns 0 or the error number. */
function register(ringFd: number, address: number, entries: number, group: number): number {
  const argument = Memory.anonymous(IO_URING_BUF_REG_SIZE);
  argument.view.setBigUint64(io_uring_buf_reg.ring_addr, BigInt(address), true);
  argument.view.setUint32(io_uring_buf_reg.ring_entries, entries, true);
  argument.view.setUint16(io_uring_buf_reg.bgid, group, true);
  const result = libc.syscall6(
    SYS_io_uring_register,
    ringFd,
    IORING_REGISTER_PBUF_RING,
    argument.address,
    1,
    0,
    0,
  );
  const errno = result < 0 ? lastErrno() : 0;
  argument.close();
  return errno;
}
