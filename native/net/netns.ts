import { fstatSync } from "node:fs";
import { O_CLOEXEC, O_RDONLY } from "../abi/fcntl.ts";
import { CLONE_NEWNET } from "../abi/sched.ts";
import { check } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";

/** The calling thread's own entry, not the process's: namespaces belong to threads. */
const OWN_NAMESPACE = "/proc/thread-self/ns/net";

/**
 * A network namespace, held by a descriptor: it lives as long as this object, a socket or a process in it.
 * Anonymous: it has no name in the file system, so nothing is left when its holders end.
 * Owner: whoever made it, until close().
 */
export class NetworkNamespace implements Disposable {
  readonly #fd: Fd;

  private constructor(fd: Fd) {
    this.#fd = fd;
  }

  /** A new namespace with nothing but a loopback interface that is down. Throws SyscallError EPERM, ENOSPC. */
  static create(): NetworkNamespace {
    using own = NetworkNamespace.open(OWN_NAMESPACE);
    check(libc.unshare(CLONE_NEWNET), "unshare", { flags: "CLONE_NEWNET" });
    try {
      return NetworkNamespace.open(OWN_NAMESPACE);
    } finally {
      own.#join();
    }
  }

  /** The namespace behind a path such as /proc/PID/ns/net or /proc/PID/fd/N. Throws SyscallError. */
  static open(path: string): NetworkNamespace {
    return new NetworkNamespace(new Fd(check(libc.open(path, O_RDONLY | O_CLOEXEC, 0), "open", { path })));
  }

  /** The path by which another process of the same user opens it, e.g. `nsenter --net=PATH`. */
  get path(): string {
    return `/proc/${process.pid}/fd/${this.#fd.number}`;
  }

  /** The kernel's number for it, the same for every descriptor of one namespace: ino of /proc/PID/ns/net. */
  get inode(): number {
    return fstatSync(this.#fd.number).ino;
  }

  /** The descriptor's number in this process, to tell another one which to open (see path). */
  get descriptor(): number {
    return this.#fd.number;
  }

  /**
   * Runs `action` with this thread inside the namespace and returns what it returns. Sockets made and
   * processes forked meanwhile belong to the namespace for good. Only for synchronous work: whatever runs
   * after the first `await` is outside again, and a promise is refused.
   * Throws SyscallError EPERM without CAP_SYS_ADMIN, and whatever `action` throws.
   */
  enter<T>(action: () => T): T {
    using own = NetworkNamespace.open(OWN_NAMESPACE);
    this.#join();
    let result: T;
    try {
      result = action();
    } finally {
      own.#join();
    }
    if (result instanceof Promise) throw new TypeError("work inside a namespace must be synchronous");
    return result;
  }

  #join(): void {
    check(libc.setns(this.#fd.number, CLONE_NEWNET), "setns", { nstype: "CLONE_NEWNET" });
  }

  close(): void {
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
