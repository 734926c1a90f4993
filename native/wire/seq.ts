/**
 * Sequence numbers are unsigned 32-bit integers that wrap. `<`, `-` and `+` on two of them are bugs:
 * all arithmetic on them is here. Read RFC 9293 section 3.4 first.
 *
 * Comparisons mean something only for numbers less than 2^31 apart, which every TCP window guarantees.
 */

/** `a` advanced by `n` (may be negative), modulo 2^32. */
export function seqAdd(a: number, n: number): number {
  return (a + n) >>> 0;
}

/** How far `a` is ahead of `b`: a - b as a signed 32-bit number, -2^31..2^31-1. */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0;
}

/** True when `a` precedes `b` modulo 2^32. As before() in include/net/tcp.h. */
export function seqBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

/** True when `a` follows `b` modulo 2^32. As after() in include/net/tcp.h. */
export function seqAfter(a: number, b: number): boolean {
  return ((b - a) | 0) < 0;
}

/** True when low <= x <= high going upwards from `low`, modulo 2^32. As between() in include/net/tcp.h. */
export function seqBetween(low: number, x: number, high: number): boolean {
  return (high - low) >>> 0 >= (x - low) >>> 0;
}
