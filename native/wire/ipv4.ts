import { assertMax, assertRoom, assertU16, isRange, readU16, writeU16 } from "./bytes.ts";
import { checksum, sumBytes } from "./checksum.ts";

/** The IPv4 header. Read RFC 791 section 3.1 first. */

// RFC 791 section 3.1.
const OFFSET = {
  versionIhl: 0,
  tos: 1,
  totalLength: 2,
  id: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  check: 10,
  src: 12,
  dst: 16,
} as const;

// The flags share a word with the fragment offset.
const DF = 0x4000;
const MF = 0x2000;
const FRAGMENT_OFFSET_MASK = 0x1fff;

/** Bytes of a header without options. */
export const IPV4_HEADER_SIZE = 20;
/** Where the source address lies in the header; the destination follows it. */
export const IPV4_ADDRESSES_OFFSET = OFFSET.src;
/** Where the identification and the checksum lie in the header. */
export const IPV4_ID_OFFSET = OFFSET.id;
export const IPV4_CHECK_OFFSET = OFFSET.check;
/** Largest packet: the length field has 16 bits. */
export const IPV4_TOTAL_LENGTH_MAX = 0xffff;

/** What encodeIpv4() needs. Keys that are absent take the value in brackets, as a Linux TCP packet has. */
export interface Ipv4Fields {
  /** 4 bytes. */
  readonly src: Uint8Array;
  /** 4 bytes. */
  readonly dst: Uint8Array;
  readonly ttl: number;
  /** [0] */
  readonly id?: number;
  /** Traffic class: DSCP and ECN. [0] */
  readonly tos?: number;
  /** Don't fragment. [true] */
  readonly df?: boolean;
}

export interface Ipv4Header extends Required<Ipv4Fields> {
  readonly protocol: number;
  /** More fragments follow. */
  readonly mf: boolean;
  /** Where this fragment's payload belongs, bytes. */
  readonly fragmentOffset: number;
  /** Where the payload lies in the bytes the header was decoded from; what follows it is link padding. */
  readonly payloadStart: number;
  readonly payloadEnd: number;
}

/**
 * Reads the header of the packet that starts at `start` and lies before `end`. The addresses are copies.
 * Options are skipped; the checksum is not looked at (verifyIpv4Checksum() does). `undefined` when it is
 * another version, cut short, or its lengths contradict each other or the bytes present.
 */
export function decodeIpv4(bytes: Uint8Array, start: number, end: number): Ipv4Header | undefined {
  if (!isRange(bytes, start, end) || end - start < IPV4_HEADER_SIZE) return undefined;
  const versionIhl = bytes[start + OFFSET.versionIhl]!;
  if (versionIhl >>> 4 !== 4) return undefined;
  const headerLength = (versionIhl & 0xf) * 4;
  const totalLength = readU16(bytes, start + OFFSET.totalLength);
  if (headerLength < IPV4_HEADER_SIZE || totalLength < headerLength || start + totalLength > end) {
    return undefined;
  }
  const fragment = readU16(bytes, start + OFFSET.fragment);
  return {
    src: bytes.slice(start + OFFSET.src, start + OFFSET.src + 4),
    dst: bytes.slice(start + OFFSET.dst, start + OFFSET.dst + 4),
    ttl: bytes[start + OFFSET.ttl]!,
    id: readU16(bytes, start + OFFSET.id),
    tos: bytes[start + OFFSET.tos]!,
    df: (fragment & DF) !== 0,
    protocol: bytes[start + OFFSET.protocol]!,
    mf: (fragment & MF) !== 0,
    fragmentOffset: (fragment & FRAGMENT_OFFSET_MASK) * 8,
    payloadStart: start + headerLength,
    payloadEnd: start + totalLength,
  };
}

/**
 * Writes a header without options at `at`, checksum included, for `payloadLength` bytes that follow it.
 * Returns its size, 20. Throws RangeError for a field out of range or too little room for the header.
 */
export function encodeIpv4(
  out: Uint8Array,
  at: number,
  fields: Ipv4Fields,
  protocol: number,
  payloadLength: number,
): number {
  const { src, dst, ttl } = fields;
  const id = fields.id ?? 0;
  const tos = fields.tos ?? 0;
  assertRoom(out, at, IPV4_HEADER_SIZE);
  assertMax("payload length", payloadLength, IPV4_TOTAL_LENGTH_MAX - IPV4_HEADER_SIZE);
  if (src.length !== 4 || dst.length !== 4) throw new RangeError("an IPv4 address has 4 bytes");
  assertMax("ttl", ttl, 0xff);
  assertU16("id", id);
  assertMax("tos", tos, 0xff);
  assertMax("protocol", protocol, 0xff);
  out[at + OFFSET.versionIhl] = (4 << 4) | (IPV4_HEADER_SIZE / 4);
  out[at + OFFSET.tos] = tos;
  writeU16(out, at + OFFSET.totalLength, IPV4_HEADER_SIZE + payloadLength);
  writeU16(out, at + OFFSET.id, id);
  writeU16(out, at + OFFSET.fragment, fields.df === false ? 0 : DF);
  out[at + OFFSET.ttl] = ttl;
  out[at + OFFSET.protocol] = protocol;
  writeU16(out, at + OFFSET.check, 0);
  for (let i = 0; i < 4; i++) {
    out[at + OFFSET.src + i] = src[i]!;
    out[at + OFFSET.dst + i] = dst[i]!;
  }
  writeU16(out, at + OFFSET.check, checksum(out, at, at + IPV4_HEADER_SIZE));
  return IPV4_HEADER_SIZE;
}

/** True when the header in bytes start..end (options included) carries the right checksum. */
export function verifyIpv4Checksum(bytes: Uint8Array, start: number, end: number): boolean {
  return (
    isRange(bytes, start, end) && end - start >= IPV4_HEADER_SIZE && sumBytes(bytes, start, end) === 0xffff
  );
}
