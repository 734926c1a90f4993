/**
 * Integers in network byte order, and the assertions every encoder makes about its caller.
 *
 * Plain indexing instead of DataView: a DataView must be allocated per buffer, and V8 compiles these to
 * the same loads. Readers trust their caller to have checked the bounds.
 */

/** The u16 at `at`. The caller has checked that two bytes are there. */
export function readU16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

/** The u32 at `at`. The caller has checked that four bytes are there. */
export function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** Writes the low 16 bits of `value` at `at`. The caller has checked room and range. */
export function writeU16(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 8;
  out[at + 1] = value;
}

/** Writes the low 32 bits of `value` at `at`. The caller has checked room and range. */
export function writeU32(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 24;
  out[at + 1] = value >>> 16;
  out[at + 2] = value >>> 8;
  out[at + 3] = value;
}

/** True when start..end (end excluded) is a range inside `bytes`. False for anything but integers. */
export function isRange(bytes: Uint8Array, start: number, end: number): boolean {
  return (
    Number.isInteger(start) && Number.isInteger(end) && start >= 0 && start <= end && end <= bytes.length
  );
}

/** Throws RangeError unless `value` is an integer in 0..max. NaN and fractions are refused too. */
export function assertMax(name: string, value: number, max: number): void {
  if (Number.isInteger(value) && value >= 0 && value <= max) return;
  throw new RangeError(`${name} is ${value}, want an integer in 0..${max}`);
}

/** Throws RangeError unless `value` is an unsigned 16-bit integer. */
export function assertU16(name: string, value: number): void {
  if ((value & 0xffff) !== value) assertMax(name, value, 0xffff);
}

/** Throws RangeError unless `value` is an unsigned 32-bit integer. */
export function assertU32(name: string, value: number): void {
  if (value >>> 0 !== value) assertMax(name, value, 0xffff_ffff);
}

/** Throws RangeError unless `length` bytes fit into `out` from `at`. */
export function assertRoom(out: Uint8Array, at: number, length: number): void {
  if (Number.isInteger(at) && at >= 0 && at + length <= out.length) return;
  throw new RangeError(`${length} bytes at ${at} do not fit into a buffer of ${out.length}`);
}
