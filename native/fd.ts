import { F_SETFD, FD_CLOEXEC } from "./abi/fcntl.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";

// From include/uapi/linux/fcntl.h.
const F_DUPFD_CLOEXEC = 1030;

/**
 * Owns one descriptor. Others borrow `number` for one call and never store it.
 * `using` for a scope, close() for a lifetime, release() to hand over.
 */
export class Fd implements Disposable {
  #number: number;

  constructor(number: number) {
    this.#number = check(number, "Fd", { number });
  }

  /** One that owns nothing, as after release(). */
  static none(): Fd {
    const fd = new Fd(0);
    fd.release();
    return fd;
  }

  /** The descriptor. Throws after close() or release(): a number used late may be someone else's. */
  get number(): number {
    if (this.#number < 0) throw new Error("descriptor used after it was closed or handed over");
    return this.#number;
  }

  get isOpen(): boolean {
    return this.#number >= 0;
  }

  /** Gives the descriptor away; this object no longer closes it. */
  release(): number {
    const { number } = this;
    this.#number = -1;
    return number;
  }

  /** Another descriptor of the file that `number` means, close-on-exec. Throws SyscallError EMFILE, EBADF. */
  static duplicate(number: number): Fd {
    return new Fd(check(libc.fcntl(number, F_DUPFD_CLOEXEC, 0), "fcntl", { fd: number }));
  }

  /** Another descriptor of the same open file. Throws as Fd.duplicate(). */
  duplicate(): Fd {
    return Fd.duplicate(this.number);
  }

  /** Programs begun from now on do not get it. Throws SyscallError EBADF. */
  setCloseOnExec(): void {
    check(libc.fcntl(this.number, F_SETFD, FD_CLOEXEC), "fcntl", { fd: this.number });
  }

  /** Closes once. Marked closed before close(2), which is never retried: Linux frees the fd even on EINTR. */
  close(): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#number = -1;
    libc.close(number);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
