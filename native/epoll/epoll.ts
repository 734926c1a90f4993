import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  epoll_event,
  SYS_epoll_pwait2,
} from "../abi/epoll.ts";
import { EINTR, ENOSYS } from "../abi/errno.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";

const EVENTS_MAX = 512;
const TIMESPEC_AT = EVENTS_MAX * epoll_event.size;

/**
 * An epoll instance of one thread. Descriptors are watched for both directions, edge-triggered: a change is
 * reported once, and after an EAGAIN the next change is the next report (epoll(7)). Closing a descriptor ends
 * its watch.
 */
export class Epoll {
  readonly #fd = new Fd(check(libc.epoll_create1(EPOLL_CLOEXEC), "epoll_create1", {}));
  readonly #memory = Memory.anonymous(TIMESPEC_AT + 16);
  #hasPwait2 = true;

  /** Watches a descriptor for input, output and its end. What is there already is reported too. */
  watch(fd: number): void {
    this.#add(fd, (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) >>> 0);
  }

  /** Watches a descriptor for input, reported for as long as there is any. */
  watchLevel(fd: number): void {
    this.#add(fd, EPOLLIN);
  }

  /** Ends the watch of a descriptor that stays open, perhaps in another process. */
  unwatch(fd: number): void {
    check(libc.epoll_ctl(this.#fd.number, EPOLL_CTL_DEL, fd, 0), "epoll_ctl", { fd });
  }

  /**
   * Waits up to `timeoutMs` (fractions count, Infinity: for ever) and returns how many reports there are;
   * 0 after a signal. Throws SyscallError.
   */
  wait(timeoutMs: number): number {
    const count = this.#hasPwait2 ? this.#waitFine(timeoutMs) : this.#waitCoarse(timeoutMs);
    if (count >= 0) return count;
    const errno = lastErrno();
    if (errno === EINTR) return 0;
    if (errno === ENOSYS && this.#hasPwait2) {
      this.#hasPwait2 = false;
      return this.wait(timeoutMs);
    }
    throw new SyscallError("epoll_wait", errno, { timeoutMs });
  }

  /** The descriptor of report `index` of the last wait(). */
  fdAt(index: number): number {
    return this.#memory.view.getInt32(index * epoll_event.size + epoll_event.data, true);
  }

  /** Its EPOLL bits. */
  eventsAt(index: number): number {
    return this.#memory.view.getUint32(index * epoll_event.size + epoll_event.events, true);
  }

  close(): void {
    this.#fd.close();
    this.#memory.close();
  }

  #add(fd: number, events: number): void {
    const { view, address } = this.#memory;
    view.setUint32(epoll_event.events, events, true);
    view.setInt32(epoll_event.data, fd, true);
    view.setInt32(epoll_event.data + 4, 0, true);
    check(libc.epoll_ctl(this.#fd.number, EPOLL_CTL_ADD, fd, address), "epoll_ctl", { fd });
  }

  #waitFine(timeoutMs: number): number {
    const { view, address } = this.#memory;
    let timespec = 0;
    if (timeoutMs !== Number.POSITIVE_INFINITY) {
      const seconds = Math.floor(timeoutMs / 1000);
      view.setUint32(TIMESPEC_AT, seconds, true); // struct timespec: two i64, the upper halves stay 0
      view.setUint32(TIMESPEC_AT + 8, Math.floor((timeoutMs - seconds * 1000) * 1e6), true);
      timespec = address + TIMESPEC_AT;
    }
    return Number(libc.syscall6(SYS_epoll_pwait2, this.#fd.number, address, EVENTS_MAX, timespec, 0, 0));
  }

  /** Before Linux 5.11: whole milliseconds, rounded up. */
  #waitCoarse(timeoutMs: number): number {
    const timeout = timeoutMs === Number.POSITIVE_INFINITY ? -1 : Math.min(Math.ceil(timeoutMs), 0x7fff_ffff);
    return libc.epoll_wait(this.#fd.number, this.#memory.address, EVENTS_MAX, timeout);
  }
}
