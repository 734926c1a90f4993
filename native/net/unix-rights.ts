/**
 * A stream between two processes of one host that carries descriptors beside its bytes (unix(7), SCM_RIGHTS). The
 * descriptors of a send arrive with its first byte: a receive never goes past bytes that have some of their own.
 */
import { EAGAIN, EINTR, EMFILE } from "../abi/errno.ts";
import { POLLFD_SIZE, POLLIN, POLLOUT } from "../abi/poll.ts";
import * as so from "../abi/socket.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";

// struct msghdr on 64-bit: name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40, flags 48; 56 bytes.
// struct iovec: base 0, len 8. struct cmsghdr: len u64, level i32, type i32, then the descriptors, i32 each.
const MSG = { iov: 16, iovlen: 24, control: 32, controllen: 40, flags: 48 } as const;
const IOVEC_AT = 64;
const POLLFD_AT = 96;
const TIMESPEC_AT = 112;
const CONTROL_AT = 128;
const CMSG = { level: 8, type: 12, data: 16 } as const;
const CONTROL_SIZE = CMSG.data + 4 * so.SCM_MAX_FD + 4; // CMSG_SPACE: a multiple of 8
const DATA_AT = 2_048;
const DATA_SIZE = 62 * 1_024;

/** What a receive brought; the descriptors are the caller's. No bytes: the other side has closed. */
export interface Received {
  readonly bytes: Uint8Array;
  readonly descriptors: readonly Fd[];
}

/** Two connected ends, close-on-exec. Throws SyscallError EMFILE. */
export function rightsPair(): [Fd, Fd] {
  const numbers = new Int32Array(2);
  check(libc.socketpair(so.AF_UNIX, so.SOCK_STREAM | so.SOCK_CLOEXEC, 0, numbers), "socketpair", {});
  return [new Fd(numbers[0]!), new Fd(numbers[1]!)];
}

/** One end. Owns its descriptor and memory until close(). */
export class RightsSocket {
  readonly #fd: Fd;
  readonly #memory = Memory.anonymous(DATA_AT + DATA_SIZE);
  #isWaiting = false;
  #isClosed = false;

  constructor(fd: Fd) {
    this.#fd = fd;
  }

  /**
   * Sends as much of `bytes` as there is room for, up to 62 KiB, and with the first of them `descriptors`, which stay
   * the caller's. Returns how many bytes went out; with 0 no descriptor did. Throws SyscallError EPIPE when the other
   * side has closed.
   */
  send(bytes: Uint8Array, descriptors: readonly number[] = []): number {
    if (descriptors.length > so.SCM_MAX_FD) throw new RangeError(`${descriptors.length} descriptors at once`);
    const { view, address } = this.#memory;
    const length = Math.min(bytes.length, DATA_SIZE);
    this.#memory.bytes.set(bytes.subarray(0, length), DATA_AT);
    const controlSize = descriptors.length === 0 ? 0 : CMSG.data + 4 * descriptors.length;
    this.#layOut(length, controlSize);
    view.setUint32(CONTROL_AT, controlSize, true);
    view.setUint32(CONTROL_AT + 4, 0, true);
    view.setInt32(CONTROL_AT + CMSG.level, so.SOL_SOCKET, true);
    view.setInt32(CONTROL_AT + CMSG.type, so.SCM_RIGHTS, true);
    for (const [index, fd] of descriptors.entries()) {
      view.setInt32(CONTROL_AT + CMSG.data + 4 * index, fd, true);
    }
    const sent = Number(libc.sendmsgAt(this.#fd.number, address, so.MSG_DONTWAIT | so.MSG_NOSIGNAL));
    return this.#lengthOf(sent, "sendmsg") ?? 0;
  }

  /** What waits, up to 62 KiB; undefined when nothing does. Throws SyscallError EMFILE when descriptors were lost. */
  receive(): Received | undefined {
    const { view, address } = this.#memory;
    this.#layOut(DATA_SIZE, CONTROL_SIZE);
    const flags = so.MSG_DONTWAIT | so.MSG_CMSG_CLOEXEC;
    const length = this.#lengthOf(Number(libc.recvmsgAt(this.#fd.number, address, flags)), "recvmsg");
    if (length === undefined) return undefined;
    const descriptors = this.#descriptors(view.getUint32(MSG.controllen, true));
    if ((view.getInt32(MSG.flags, true) & so.MSG_CTRUNC) !== 0) {
      for (const fd of descriptors) fd.close();
      throw new SyscallError("recvmsg", EMFILE, { descriptors: descriptors.length });
    }
    return { bytes: this.#memory.bytes.slice(DATA_AT, DATA_AT + length), descriptors };
  }

  /**
   * Waits in another thread until something can be received ("input") or sent. False: not within `timeoutMs`. One wait
   * at a time.
   */
  async wait(what: "input" | "output", timeoutMs: number): Promise<boolean> {
    if (this.#isWaiting) throw new Error("two waits on one socket");
    this.#isWaiting = true;
    const { view, address } = this.#memory;
    view.setInt32(POLLFD_AT, this.#fd.number, true);
    view.setInt16(POLLFD_AT + 4, what === "input" ? POLLIN : POLLOUT, true);
    view.setUint32(POLLFD_AT + POLLFD_SIZE - 2, 0, true);
    view.setUint32(TIMESPEC_AT, Math.floor(timeoutMs / 1e3), true);
    view.setUint32(TIMESPEC_AT + 8, (timeoutMs % 1e3) * 1e6, true);
    const ready = await new Promise<number>((resolve, reject) => {
      const done = (error: Error | null, count: number): void => (error ? reject(error) : resolve(count));
      libc.ppollAt.async(address + POLLFD_AT, 1, address + TIMESPEC_AT, 0, done);
    });
    this.#isWaiting = false;
    if (this.#isClosed) this.#memory.close();
    return ready > 0;
  }

  /** Closes now; the memory goes with the wait that may be under way. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#fd.close();
    if (!this.#isWaiting) this.#memory.close();
  }

  #layOut(length: number, controlSize: number): void {
    const { view, address } = this.#memory;
    view.setBigUint64(MSG.iov, BigInt(address + IOVEC_AT), true);
    view.setBigUint64(MSG.iovlen, 1n, true);
    view.setBigUint64(MSG.control, controlSize === 0 ? 0n : BigInt(address + CONTROL_AT), true);
    view.setBigUint64(MSG.controllen, BigInt(controlSize), true);
    view.setInt32(MSG.flags, 0, true);
    view.setBigUint64(IOVEC_AT, BigInt(address + DATA_AT), true);
    view.setBigUint64(IOVEC_AT + 8, BigInt(length), true);
  }

  #descriptors(controlSize: number): Fd[] {
    const { view } = this.#memory;
    if (controlSize < CMSG.data) return [];
    if (view.getInt32(CONTROL_AT + CMSG.type, true) !== so.SCM_RIGHTS) return [];
    const count = (view.getUint32(CONTROL_AT, true) - CMSG.data) >>> 2;
    return Array.from(
      { length: count },
      (_, index) => new Fd(view.getInt32(CONTROL_AT + CMSG.data + 4 * index, true)),
    );
  }

  #lengthOf(result: number, syscall: string): number | undefined {
    if (result >= 0) return result;
    const errno = lastErrno();
    if (errno === EAGAIN || errno === EINTR) return undefined;
    throw new SyscallError(syscall, errno, { fd: this.#fd.number });
  }
}
