import { assertMax, assertU16, isRange, readU16, writeU16 } from "./bytes.ts";

/**
 * The Internet checksum (RFC 1071) and the pseudo headers of TCP over IPv4 (RFC 9293 section 3.1) and
 * IPv6 (RFC 8200 section 8.1).
 *
 * A *sum* here is a folded one's complement sum, 0..0xffff; sums of several ranges are chained through
 * `initial`, and every range but the last must have an even length. A *checksum* is the complement of a
 * sum: what the header field holds. Summing a range that includes a right checksum gives 0xffff.
 */

// 65535 words of at most 0xffff and an initial sum stay below 2^32, so one fold at the end is enough.
const BYTES_MAX = 2 * 0xffff;

/**
 * One's complement sum of bytes start..end, as big-endian words, an odd last byte padded with zero.
 * Throws RangeError when the range is not inside `bytes`, is longer than 131070 bytes, or `initial` is
 * not a sum.
 */
export function sumBytes(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  if (!isRange(bytes, start, end)) throw new RangeError(`no range ${start}..${end} in ${bytes.length} bytes`);
  assertMax("length of the summed range", end - start, BYTES_MAX);
  assertMax("initial sum", initial, 0xffff);
  // High and low bytes apart: both stay small integers, where the sum of the words would not.
  let high = 0;
  let low = 0;
  let at = start;
  for (const last = end - 7; at < last; at += 8) {
    high += bytes[at]! + bytes[at + 2]! + bytes[at + 4]! + bytes[at + 6]!;
    low += bytes[at + 1]! + bytes[at + 3]! + bytes[at + 5]! + bytes[at + 7]!;
  }
  for (const last = end - 1; at < last; at += 2) {
    high += bytes[at]!;
    low += bytes[at + 1]!;
  }
  if (at < end) high += bytes[at]!;
  return fold(initial + high * 256 + low);
}

/** The checksum of bytes start..end: the complement of sumBytes(). Throws as sumBytes() does. */
export function checksum(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  return ~sumBytes(bytes, start, end, initial) & 0xffff;
}

/**
 * Sum of the pseudo header of a packet whose two addresses lie in its own header: source, then
 * destination, from `addressesAt`, each of `addressLength` bytes (4 or 16; both versions give the same
 * words for lengths below 64 KiB). `length` is that of the transport header and its payload in bytes.
 * Throws RangeError when the addresses are not inside `bytes`, or protocol or length are out of range.
 */
export function pseudoHeaderSum(
  bytes: Uint8Array,
  addressesAt: number,
  addressLength: 4 | 16,
  protocol: number,
  length: number,
): number {
  const end = addressesAt + 2 * addressLength;
  if (!isRange(bytes, addressesAt, end)) throw new RangeError(`no addresses at ${addressesAt}`);
  assertMax("protocol", protocol, 0xff);
  assertU16("segment length", length);
  let sum = protocol + length;
  for (let at = addressesAt; at < end; at += 2) sum += readU16(bytes, at);
  return fold(sum);
}

/**
 * Writes `value` at the even offset `at` and corrects the checksum at `checkAt` that covers it, whose other words
 * are not read (RFC 1624 equation 3). The caller has checked room and range.
 */
export function replaceU16(bytes: Uint8Array, at: number, value: number, checkAt: number): void {
  const sum = (~readU16(bytes, checkAt) & 0xffff) + (~readU16(bytes, at) & 0xffff) + value;
  writeU16(bytes, at, value);
  writeU16(bytes, checkAt, ~fold(sum) & 0xffff);
}

/** As replaceU16() with an unsigned 32-bit integer. */
export function replaceU32(bytes: Uint8Array, at: number, value: number, checkAt: number): void {
  replaceU16(bytes, at, value >>> 16, checkAt);
  replaceU16(bytes, at + 2, value & 0xffff, checkAt);
}

/** Folds the carries of a sum below 2^32 back in (RFC 1071 section 4.1). */
function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}
