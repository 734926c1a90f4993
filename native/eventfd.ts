import { check } from "./errno.ts";
import { Fd } from "./fd.ts";
import { libc } from "./libc.ts";

// From include/uapi/linux/eventfd.h.
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

const one = new Uint8Array(new BigUint64Array([1n]).buffer);
const counter = new Uint8Array(8);

/** An eventfd its maker waits on: other threads wake it through wakeEventFd(). */
export class EventFd {
  readonly fd = new Fd(check(libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd", {}));

  /** Takes every wake-up that came so far. */
  drain(): void {
    libc.read(this.fd.number, counter, counter.length);
  }

  close(): void {
    this.fd.close();
  }
}

/**
 * Wakes whoever waits on this eventfd, from any thread. The number is the owner's `fd.number`, valid for as
 * long as the owner's thread has not been told to stop.
 */
export function wakeEventFd(number: number): void {
  libc.write(number, one, one.length);
}
