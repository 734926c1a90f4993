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
import { decodeTcpOptions, encodeTcpOptions, type TcpOptions, tcpOptionsLength } from "./tcp-options.ts";

/** A TCP segment. Read RFC 9293 section 3.1 first. */

// RFC 9293 section 3.1.
const OFFSET = {
  sport: 0,
  dport: 2,
  seq: 4,
  ack: 8,
  doff: 12,
  flags: 13,
  window: 14,
  check: 16,
  urg: 18,
} as const;

/** Bytes of a header without options. */
export const TCP_HEADER_SIZE = 20;
/** Where source port, sequence number and checksum lie in the header. */
export const TCP_SPORT_OFFSET = OFFSET.sport;
export const TCP_SEQ_OFFSET = OFFSET.seq;
export const TCP_CHECK_OFFSET = OFFSET.check;

// Control bits (RFC 9293 section 3.1, RFC 3168 section 6.1).
export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;

export interface TcpSegment {
  readonly sport: number;
  readonly dport: number;
  /** Sequence number of the first payload byte, or of the SYN; u32. */
  readonly seq: number;
  /** Acknowledgment number, u32; whatever the field holds when the ACK flag is off. */
  readonly ack: number;
  /** Union of the control bits above. */
  readonly flags: number;
  /** The window field as it is on the wire, unscaled. */
  readonly window: number;
  readonly options: TcpOptions;
}

/** A segment and where its payload lies in the bytes it was decoded from. */
export interface DecodedSegment extends TcpSegment {
  readonly payloadStart: number;
  readonly payloadEnd: number;
}

/**
 * Reads the segment in bytes start..end. The checksum is not looked at (verifyPacketChecksums() does), nor
 * are the reserved bits (RFC 9293: ignored when received) and the urgent pointer. `undefined` when the
 * header is cut short, its data offset is below 5 or past the end, or an option is malformed.
 */
export function decodeTcp(bytes: Uint8Array, start: number, end: number): DecodedSegment | undefined {
  if (!isRange(bytes, start, end) || end - start < TCP_HEADER_SIZE) return undefined;
  const payloadStart = start + (bytes[start + OFFSET.doff]! >>> 4) * 4;
  if (payloadStart < start + TCP_HEADER_SIZE || payloadStart > end) return undefined;
  const options = decodeTcpOptions(bytes, start + TCP_HEADER_SIZE, payloadStart);
  if (options === undefined) return undefined;
  return {
    sport: readU16(bytes, start + OFFSET.sport),
    dport: readU16(bytes, start + OFFSET.dport),
    seq: readU32(bytes, start + OFFSET.seq),
    ack: readU32(bytes, start + OFFSET.ack),
    flags: bytes[start + OFFSET.flags]!,
    window: readU16(bytes, start + OFFSET.window),
    options,
    payloadStart,
    payloadEnd: end,
  };
}

/** Bytes that encodeTcp() writes. */
export function tcpLength(segment: TcpSegment, payload?: Uint8Array): number {
  return TCP_HEADER_SIZE + tcpOptionsLength(segment.options) + (payload === undefined ? 0 : payload.length);
}

/**
 * Writes a segment at `at`, with a checksum and an urgent pointer of zero. Returns the bytes written.
 * Throws RangeError for a field out of range or too little room; `out` may then be partly written.
 */
export function encodeTcp(out: Uint8Array, at: number, segment: TcpSegment, payload?: Uint8Array): number {
  const { sport, dport, seq, ack, flags, window, options } = segment;
  const length = tcpLength(segment, payload);
  assertRoom(out, at, length);
  assertU16("sport", sport);
  assertU16("dport", dport);
  assertU32("seq", seq);
  assertU32("ack", ack);
  assertMax("flags", flags, 0xff);
  assertU16("window", window);
  // The payload first: it may lie in `out`, where the header would overwrite it.
  const headerLength = TCP_HEADER_SIZE + tcpOptionsLength(options);
  if (payload !== undefined) out.set(payload, at + headerLength);
  encodeTcpOptions(out, at + TCP_HEADER_SIZE, options);
  writeU16(out, at + OFFSET.sport, sport);
  writeU16(out, at + OFFSET.dport, dport);
  writeU32(out, at + OFFSET.seq, seq);
  writeU32(out, at + OFFSET.ack, ack);
  out[at + OFFSET.doff] = (headerLength / 4) << 4;
  out[at + OFFSET.flags] = flags;
  writeU16(out, at + OFFSET.window, window);
  writeU16(out, at + OFFSET.check, 0);
  writeU16(out, at + OFFSET.urg, 0);
  return length;
}
