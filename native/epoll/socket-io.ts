/**
 * The system calls of a readiness loop: never waiting, results as io_uring gives them (>= 0 or -errno), so that
 * both drivers speak one language.
 */
import { EINPROGRESS, EINTR } from "../abi/errno.ts";
import { MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_NONBLOCK } from "../abi/socket.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { takeSocketError } from "../sockopt.ts";

// From include/uapi/asm-generic/fcntl.h.
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;

/** Makes a descriptor non-blocking. Throws SyscallError EBADF. */
export function setNonBlocking(fd: number): void {
  const flags = check(libc.fcntl(fd, F_GETFL, 0), "fcntl", { fd, cmd: "F_GETFL" });
  if ((flags & O_NONBLOCK) === 0) check(libc.fcntl(fd, F_SETFL, flags | O_NONBLOCK), "fcntl", { fd });
}

function retried(call: () => number): number {
  for (;;) {
    const result = call();
    if (result >= 0) return result;
    const errno = lastErrno();
    if (errno !== EINTR) return -errno;
  }
}

/** accept4(2) on a non-blocking listening socket: a non-blocking, close-on-exec descriptor. */
export function acceptOne(fd: number): number {
  return retried(() => libc.accept4(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

export function receiveInto(fd: number, address: number, length: number): number {
  return retried(() => Number(libc.recvAt(fd, address, length, MSG_DONTWAIT)));
}

/** With `more` the last segment waits for what follows. */
export function sendFrom(fd: number, address: number, length: number, more: boolean): number {
  const flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
  return retried(() => Number(libc.sendtoAt(fd, address, length, flags, 0, 0)));
}

/** Starts connecting a non-blocking socket: 0, -EINPROGRESS, or what went wrong at once. */
export function startConnect(fd: number, sockaddr: number, length: number): number {
  const result = libc.connectAt(fd, sockaddr, length);
  if (result === 0) return 0;
  const errno = lastErrno();
  return errno === EINTR ? -EINPROGRESS : -errno;
}

/** How a connect that was in progress ended: 0 or -errno. */
export function connectResult(fd: number): number {
  try {
    return -takeSocketError(fd);
  } catch (error) {
    if (error instanceof SyscallError) return -error.errno;
    throw error;
  }
}
