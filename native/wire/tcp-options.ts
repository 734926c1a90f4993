import {
  assertMax,
  assertRoom,
  assertU16,
  assertU32,
  isRange,
  readU16,
  readU32,
  writeU16,
  writeU32,
} from "./bytes.ts";

/**
 * TCP options: the four that a handshake negotiates. Read RFC 9293 section 3.1 (format), RFC 7323
 * (window scale, timestamps), RFC 2018 (SACK) and net/ipv4/tcp_output.c:tcp_options_write() first.
 */

// RFC 9293 section 3.2, RFC 7323 sections 2.2 and 3.2, RFC 2018 section 2; include/net/tcp.h TCPOPT_*.
const KIND = { eol: 0, nop: 1, mss: 2, wscale: 3, sackPermitted: 4, timestamps: 8 } as const;
const LENGTH = { mss: 4, wscale: 3, sackPermitted: 2, timestamps: 10 } as const;

/** Largest window shift (RFC 7323 section 2.3; TCP_MAX_WSCALE in include/net/tcp.h). */
export const TCP_MAX_WSCALE = 14;

/** An absent option is an absent key. */
export interface TcpOptions {
  /** Largest segment the sender takes, bytes, 1..65535. */
  readonly mss?: number;
  /** Window shift, 0..14. */
  readonly wscale?: number;
  /** Decoded as `true` or absent. */
  readonly sackPermitted?: boolean;
  /** Timestamp value, u32. */
  readonly tsval?: number;
  /** Timestamp echo reply, u32. Always decoded with `tsval`; encoded as 0, as in a SYN, when absent. */
  readonly tsecr?: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Reads the options in bytes start..end. Of an option given twice the last counts, as in Linux.
 * SACK blocks and unknown kinds are skipped by their length. A shift above 14 counts as 14 (RFC 7323
 * section 2.3). `undefined` when malformed: a length below 2 or past the end, an option above with another
 * length than its own, an MSS of zero.
 */
export function decodeTcpOptions(bytes: Uint8Array, start: number, end: number): TcpOptions | undefined {
  if (!isRange(bytes, start, end)) return undefined;
  const options: Mutable<TcpOptions> = {};
  let at = start;
  while (at < end) {
    const kind = bytes[at]!;
    if (kind === KIND.eol) break;
    if (kind === KIND.nop) {
      at += 1;
      continue;
    }
    if (at + 1 >= end) return undefined;
    const length = bytes[at + 1]!;
    if (length < 2 || at + length > end) return undefined;
    switch (kind) {
      case KIND.mss: {
        if (length !== LENGTH.mss) return undefined;
        const mss = readU16(bytes, at + 2);
        if (mss === 0) return undefined;
        options.mss = mss;
        break;
      }
      case KIND.wscale:
        if (length !== LENGTH.wscale) return undefined;
        options.wscale = Math.min(bytes[at + 2]!, TCP_MAX_WSCALE);
        break;
      case KIND.sackPermitted:
        if (length !== LENGTH.sackPermitted) return undefined;
        options.sackPermitted = true;
        break;
      case KIND.timestamps:
        if (length !== LENGTH.timestamps) return undefined;
        options.tsval = readU32(bytes, at + 2);
        options.tsecr = readU32(bytes, at + 6);
        break;
    }
    at += length;
  }
  return options;
}

/** Bytes that encodeTcpOptions() writes for these options: a multiple of 4, at most 20. */
export function tcpOptionsLength(options: TcpOptions): number {
  let length = 0;
  if (options.mss !== undefined) length += 4;
  if (options.tsval !== undefined) length += 12;
  else if (options.sackPermitted === true) length += 4;
  if (options.wscale !== undefined) length += 4;
  return length;
}

/** Where encodeTcpOptions() puts the TSval, from the first option on; undefined without timestamps. */
export function tsvalOffset({ mss, tsval }: TcpOptions): number | undefined {
  if (tsval === undefined) return undefined;
  return (mss === undefined ? 0 : 4) + 4; // after the MSS and a word of padding, kind and length
}

/**
 * Writes options at `at` with the order and padding of net/ipv4/tcp_output.c:tcp_options_write(), so that
 * a segment cannot be told from the kernel's: MSS; timestamps, whose padding SACK permitted takes when
 * both are there; window scale. Returns the bytes written, a multiple of 4.
 * Throws RangeError for a value out of range, tsecr without tsval, or too little room.
 */
export function encodeTcpOptions(out: Uint8Array, at: number, options: TcpOptions): number {
  const { mss, wscale, tsval, tsecr } = options;
  const sackPermitted = options.sackPermitted === true;
  const length = tcpOptionsLength(options);
  assertRoom(out, at, length);
  if (tsval === undefined && tsecr !== undefined) throw new RangeError("tsecr without tsval");
  let next = at;
  if (mss !== undefined) {
    assertU16("mss", mss);
    if (mss === 0) throw new RangeError("mss is 0");
    out[next] = KIND.mss;
    out[next + 1] = LENGTH.mss;
    writeU16(out, next + 2, mss);
    next += 4;
  }
  if (tsval !== undefined || sackPermitted) {
    out[next] = sackPermitted && tsval !== undefined ? KIND.sackPermitted : KIND.nop;
    out[next + 1] = sackPermitted && tsval !== undefined ? LENGTH.sackPermitted : KIND.nop;
    out[next + 2] = tsval !== undefined ? KIND.timestamps : KIND.sackPermitted;
    out[next + 3] = tsval !== undefined ? LENGTH.timestamps : LENGTH.sackPermitted;
    next += 4;
  }
  if (tsval !== undefined) {
    assertU32("tsval", tsval);
    writeU32(out, next, tsval);
    assertU32("tsecr", tsecr ?? 0);
    writeU32(out, next + 4, tsecr ?? 0);
    next += 8;
  }
  if (wscale !== undefined) {
    assertMax("wscale", wscale, TCP_MAX_WSCALE);
    out[next] = KIND.nop;
    out[next + 1] = KIND.wscale;
    out[next + 2] = LENGTH.wscale;
    out[next + 3] = wscale;
  }
  return length;
}
