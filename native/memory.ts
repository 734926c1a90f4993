import koffi from "koffi";
import { SyscallError } from "./errno.ts";
import { libc } from "./libc.ts";

// From include/uapi/asm-generic/mman-common.h and mman.h.
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MAP_POPULATE = 0x8000;

/**
 * Memory outside the JavaScript heap: the kernel may hold its address across calls, and a call takes the
 * address as a plain number (user space ends at 2^47, so it fits a double exactly).
 * Owner: whoever made it, until close(). Reading `bytes` after close() faults.
 */
export class Memory {
  readonly address: number;
  readonly size: number;
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  #open = true;

  private constructor(address: number, size: number) {
    this.address = address;
    this.size = size;
    this.buffer = koffi.view(BigInt(address), size);
    this.bytes = new Uint8Array(this.buffer);
    this.view = new DataView(this.buffer);
  }

  /** Zeroed private memory of `size` bytes, page aligned. Throws SyscallError ENOMEM. */
  static anonymous(size: number): Memory {
    return Memory.#map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, PROT_READ | PROT_WRITE);
  }

  /** `size` bytes of a descriptor from `offset`, shared with the kernel (io_uring rings). */
  static shared(fd: number, size: number, offset: number): Memory {
    return Memory.#map(size, MAP_SHARED | MAP_POPULATE, fd, offset, PROT_READ | PROT_WRITE);
  }

  /** The same where the kernel alone may write (BPF ring buffers): writing to it faults. */
  static sharedReadOnly(fd: number, size: number, offset: number): Memory {
    return Memory.#map(size, MAP_SHARED | MAP_POPULATE, fd, offset, PROT_READ);
  }

  static #map(size: number, flags: number, fd: number, offset: number, protection: number): Memory {
    const address = Number(libc.mmap(0, size, protection, flags, fd, offset));
    if (address === -1) throw new SyscallError("mmap", koffi.errno(), { size, fd, offset });
    return new Memory(address, size);
  }

  /** Unmaps. Only when no kernel request refers to it any more. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    libc.munmap(this.address, this.size);
  }
}

/** Copies between two addresses that do not overlap. */
export function copyMemory(to: number, from: number, length: number): void {
  libc.memcpyAt(to, from, length);
}
