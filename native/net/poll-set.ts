import { EINTR } from "../abi/errno.ts";
import { POLLERR, POLLFD_SIZE, POLLHUP, POLLIN } from "../abi/poll.ts";
import { lastErrno, SyscallError } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";

const READABLE = POLLIN | POLLERR | POLLHUP;

/**
 * A fixed set of descriptors to wait on for input, with a timeout of nanosecond grain: ppoll(2) without an
 * allocation. Members are known by their position in the list given. Owner of its memory until close(); the
 * descriptors are borrowed and must outlive it.
 */
export class PollSet implements Disposable {
  readonly #memory: Memory;
  readonly #count: number;
  readonly #timeout: number;

  constructor(descriptors: readonly Fd[]) {
    this.#count = descriptors.length;
    this.#timeout = this.#count * POLLFD_SIZE;
    this.#memory = Memory.anonymous(this.#timeout + 16);
    for (const [index, descriptor] of descriptors.entries()) {
      this.#memory.view.setInt32(index * POLLFD_SIZE, descriptor.number, true);
      this.#memory.view.setInt16(index * POLLFD_SIZE + 4, POLLIN, true);
    }
  }

  /**
   * Waits until a member is readable or `timeoutMs` (fractions count; Infinity: for ever) has passed. Returns
   * how many are readable; a signal counts as none. Throws SyscallError.
   */
  wait(timeoutMs: number): number {
    const { address, view } = this.#memory;
    let timeoutAt = 0;
    if (timeoutMs !== Number.POSITIVE_INFINITY) {
      const seconds = Math.floor(timeoutMs / 1000);
      view.setUint32(this.#timeout, seconds, true); // struct timespec: tv_sec and tv_nsec, 64 bits each
      view.setUint32(this.#timeout + 8, Math.floor((timeoutMs - seconds * 1000) * 1e6), true);
      timeoutAt = address + this.#timeout;
    }
    const ready = libc.ppollAt(address, this.#count, timeoutAt, 0);
    if (ready >= 0) return ready;
    const errno = lastErrno();
    if (errno !== EINTR) throw new SyscallError("ppoll", errno, { timeoutMs });
    for (let index = 0; index < this.#count; index++) view.setInt16(index * POLLFD_SIZE + 6, 0, true);
    return 0;
  }

  /** Whether the member at `index` was readable, ended or in error at the last wait(). */
  isReadable(index: number): boolean {
    return (this.#memory.view.getInt16(index * POLLFD_SIZE + 6, true) & READABLE) !== 0;
  }

  close(): void {
    this.#memory.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
