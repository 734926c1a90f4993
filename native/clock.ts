import { performance } from "node:perf_hooks"; // the global one is a getter
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

/**
 * CLOCK_MONOTONIC, the same in every thread of the process and without allocation.
 *
 * performance.now() counts from each thread's own start, process.hrtime() from boot; both read
 * CLOCK_MONOTONIC (libuv uv_hrtime), so one subtraction at load aligns them. Each is called once before: a first
 * call takes up to half a millisecond, by which the threads' clocks would differ.
 */
performance.now();
process.hrtime();
const [seconds, nanoseconds] = process.hrtime();
const sinceBootMs = seconds * 1e3 + nanoseconds / 1e6 - performance.now();

/** Milliseconds since boot, with fractions. */
export function nowMs(): number {
  return performance.now() + sinceBootMs;
}

/** The same modulo 2^32 as a signed 32-bit integer, for Int32Array tables. Compare with ageMs32(). */
export function nowMs32(): number {
  return (performance.now() + sinceBootMs) | 0; // ToInt32 is modulo 2^32 for any finite number
}

/** Milliseconds from `then` to `now`, both of nowMs32(); right for ages below 24 days. */
export function ageMs32(now: number, then: number): number {
  return (now - then) | 0;
}

// From include/uapi/linux/time.h.
const CLOCK_THREAD_CPUTIME_ID = 3;
let timespec: Memory | undefined;

/** CPU time of the calling thread, user and system, in µs. One call costs about 0.3 µs itself. */
export function threadCpuUs(): number {
  timespec ??= Memory.anonymous(4096);
  check(libc.clockGettimeAt(CLOCK_THREAD_CPUTIME_ID, timespec.address), "clock_gettime", {});
  // struct timespec: two i64; a thread's seconds fit 32 bits.
  return timespec.view.getUint32(0, true) * 1e6 + timespec.view.getUint32(8, true) / 1e3;
}
