/**
 * The calls that are cheaper made directly than through the ring: IORING_OP_SHUTDOWN always goes to a kernel
 * worker thread (net.c sets REQ_F_FORCE_ASYNC), and an eventfd has to be read after its poll, because a read
 * through the ring fails with EAGAIN at once on a non-blocking one.
 */
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";

const scratch = Memory.anonymous(8);
const words = new Uint32Array(scratch.buffer);

/** shutdown(2), errors dropped: ENOTCONN follows a reset, and then there is nothing left to shut down. */
export function shutdownSocket(fd: number, how: number): void {
  libc.shutdown(fd, how);
}

/** close(2), errors dropped: Linux frees the number in every case. */
export function closeDescriptor(fd: number): void {
  libc.close(fd);
}

/**
 * Reads an eventfd that is readable: returns the sum written since the last read, at most 2^31 - 1, or 0 when
 * someone else read it first (only on a non-blocking one; a blocking one would wait).
 */
export function drainEventfd(fd: number): number {
  if (libc.readAt(fd, scratch.address, 8) !== 8) return 0;
  return words[1]! > 0 ? 0x7fff_ffff : Math.min(words[0]!, 0x7fff_ffff);
}
