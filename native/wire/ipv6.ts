import { IPPROTO_TCP } from "../abi/socket.ts";
import { assertMax, assertRoom, isRange, readU16, readU32, writeU16, writeU32 } from "./bytes.ts";

/** The IPv6 header of a TCP packet, and the extension headers in front of the segment. Read RFC 8200 first. */

// RFC 8200 section 3.
const OFFSET = {
  versionClassLabel: 0,
  payloadLength: 4,
  nextHeader: 6,
  hopLimit: 7,
  src: 8,
  dst: 24,
} as const;

// RFC 8200 section 4; include/net/ipv6.h NEXTHDR_*.
const HOP_BY_HOP = 0;
const ROUTING = 43;
const DESTINATION_OPTIONS = 60;

// Routing header: next header, length, routing type, segments left.
const SEGMENTS_LEFT_OFFSET = 3;

/** Bytes of a header without extension headers. */
export const IPV6_HEADER_SIZE = 40;
/** Where the source address lies in the header; the destination follows it. */
export const IPV6_ADDRESSES_OFFSET = OFFSET.src;
/** Largest payload: the length field has 16 bits. */
export const IPV6_PAYLOAD_LENGTH_MAX = 0xffff;

/** What encodeIpv6() needs. Keys that are absent mean 0. */
export interface Ipv6Fields {
  /** 16 bytes. */
  readonly src: Uint8Array;
  /** 16 bytes. */
  readonly dst: Uint8Array;
  /** The hop limit, under the name it has in IPv4. */
  readonly ttl: number;
  /** 20 bits. */
  readonly flowLabel?: number;
  /** Traffic class: DSCP and ECN. */
  readonly trafficClass?: number;
}

export interface Ipv6Header extends Required<Ipv6Fields> {
  /** Where the TCP segment lies in the bytes the header was decoded from; what follows is link padding. */
  readonly payloadStart: number;
  readonly payloadEnd: number;
}

/**
 * Reads the headers of the TCP packet that starts at `start` and lies before `end`. The addresses are
 * copies. Hop-by-hop options (first only), destination options and routing headers are skipped.
 * `undefined` when it is another version, cut short, no TCP, a fragment, encrypted or authenticated, or
 * still on its way along a routing header: the destination would not be the one the checksum is made with.
 */
export function decodeIpv6(bytes: Uint8Array, start: number, end: number): Ipv6Header | undefined {
  if (!isRange(bytes, start, end) || end - start < IPV6_HEADER_SIZE) return undefined;
  const versionClassLabel = readU32(bytes, start + OFFSET.versionClassLabel);
  if (versionClassLabel >>> 28 !== 6) return undefined;
  const payloadEnd = start + IPV6_HEADER_SIZE + readU16(bytes, start + OFFSET.payloadLength);
  if (payloadEnd > end) return undefined;
  const payloadStart = skipExtensions(
    bytes,
    start + IPV6_HEADER_SIZE,
    payloadEnd,
    bytes[start + OFFSET.nextHeader]!,
  );
  if (payloadStart === undefined) return undefined;
  return {
    src: bytes.slice(start + OFFSET.src, start + OFFSET.src + 16),
    dst: bytes.slice(start + OFFSET.dst, start + OFFSET.dst + 16),
    ttl: bytes[start + OFFSET.hopLimit]!,
    flowLabel: versionClassLabel & 0xfffff,
    trafficClass: (versionClassLabel >>> 20) & 0xff,
    payloadStart,
    payloadEnd,
  };
}

/** Where the TCP segment starts. `undefined` when the chain ends in something else or past `end`. */
function skipExtensions(
  bytes: Uint8Array,
  start: number,
  end: number,
  firstHeader: number,
): number | undefined {
  let at = start;
  let header = firstHeader;
  while (header !== IPPROTO_TCP) {
    if (header !== ROUTING && header !== DESTINATION_OPTIONS && (header !== HOP_BY_HOP || at !== start)) {
      return undefined;
    }
    // Next header, then the length in units of 8 bytes without the first 8.
    if (at + 8 > end) return undefined;
    const next = at + (bytes[at + 1]! + 1) * 8;
    if (next > end) return undefined;
    if (header === ROUTING && bytes[at + SEGMENTS_LEFT_OFFSET] !== 0) return undefined;
    header = bytes[at]!;
    at = next;
  }
  return at;
}

/**
 * Writes a header at `at` for a payload of `payloadLength` bytes that follows it. Returns its size, 40.
 * Throws RangeError for a field out of range or too little room for the header.
 */
export function encodeIpv6(
  out: Uint8Array,
  at: number,
  fields: Ipv6Fields,
  payloadLength: number,
  nextHeader = IPPROTO_TCP,
): number {
  const { src, dst, ttl } = fields;
  const flowLabel = fields.flowLabel ?? 0;
  const trafficClass = fields.trafficClass ?? 0;
  assertRoom(out, at, IPV6_HEADER_SIZE);
  assertMax("payload length", payloadLength, IPV6_PAYLOAD_LENGTH_MAX);
  if (src.length !== 16 || dst.length !== 16) throw new RangeError("an IPv6 address has 16 bytes");
  assertMax("ttl", ttl, 0xff);
  assertMax("flow label", flowLabel, 0xfffff);
  assertMax("traffic class", trafficClass, 0xff);
  writeU32(out, at + OFFSET.versionClassLabel, (6 << 28) | (trafficClass << 20) | flowLabel);
  writeU16(out, at + OFFSET.payloadLength, payloadLength);
  out[at + OFFSET.nextHeader] = nextHeader;
  out[at + OFFSET.hopLimit] = ttl;
  for (let i = 0; i < 16; i++) {
    out[at + OFFSET.src + i] = src[i]!;
    out[at + OFFSET.dst + i] = dst[i]!;
  }
  return IPV6_HEADER_SIZE;
}
