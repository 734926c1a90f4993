import { IPPROTO_TCP } from "../abi/socket.ts";
import { assertRoom, isRange, writeU16 } from "./bytes.ts";
import { checksum, pseudoHeaderSum, sumBytes } from "./checksum.ts";
import {
  decodeIpv4,
  encodeIpv4,
  IPV4_ADDRESSES_OFFSET,
  IPV4_HEADER_SIZE,
  IPV4_TOTAL_LENGTH_MAX,
  verifyIpv4Checksum,
} from "./ipv4.ts";
import {
  decodeIpv6,
  encodeIpv6,
  IPV6_ADDRESSES_OFFSET,
  IPV6_HEADER_SIZE,
  IPV6_PAYLOAD_LENGTH_MAX,
} from "./ipv6.ts";
import {
  decodeTcp,
  encodeTcp,
  TCP_CHECK_OFFSET,
  TCP_HEADER_SIZE,
  type TcpSegment,
  tcpLength,
} from "./tcp.ts";

/**
 * A whole TCP packet, from the IP header on, as a raw socket or a TUN device carries it. The length of the
 * addresses chooses the IP version when encoding, the first nibble when decoding.
 */
export interface TcpPacket extends TcpSegment {
  /** 4 or 16 bytes, as many as `dst`. */
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  /** Time to live, or the hop limit of IPv6. */
  readonly ttl: number;
  /** IPv4 identification; 0 when absent. Not looked at for IPv6. */
  readonly id?: number;
  /** IPv6 flow label, 20 bits; 0 when absent. Not looked at for IPv4. */
  readonly flowLabel?: number;
}

/** A packet and where its payload lies in the bytes it was decoded from. */
export interface DecodedPacket extends TcpPacket {
  readonly payloadStart: number;
  readonly payloadEnd: number;
}

/**
 * Reads the TCP packet at the start of `bytes`, of which `end` bytes (default: all) are valid. Checksums
 * are not looked at: the kernel has checked what a raw TCP socket delivers, and offload leaves them
 * unfinished on virtual links; verifyPacketChecksums() checks. The result keeps no reference to `bytes`.
 * `undefined` for anything that is not one whole, well-formed TCP packet: fragments too.
 */
export function decodePacket(bytes: Uint8Array, end: number = bytes.length): DecodedPacket | undefined {
  if (!isRange(bytes, 0, end) || end === 0) return undefined;
  if (bytes[0]! >>> 4 === 4) {
    const ip = decodeIpv4(bytes, 0, end);
    if (ip === undefined || ip.protocol !== IPPROTO_TCP || ip.mf || ip.fragmentOffset !== 0) return undefined;
    const tcp = decodeTcp(bytes, ip.payloadStart, ip.payloadEnd);
    if (tcp === undefined) return undefined;
    const { src, dst, ttl, id } = ip;
    const { sport, dport, seq, ack, flags, window, options, payloadStart, payloadEnd } = tcp;
    return { src, dst, ttl, id, sport, dport, seq, ack, flags, window, options, payloadStart, payloadEnd };
  }
  const ip = decodeIpv6(bytes, 0, end);
  if (ip === undefined) return undefined;
  const tcp = decodeTcp(bytes, ip.payloadStart, ip.payloadEnd);
  if (tcp === undefined) return undefined;
  const { src, dst, ttl, flowLabel } = ip;
  const { sport, dport, seq, ack, flags, window, options, payloadStart, payloadEnd } = tcp;
  return {
    src,
    dst,
    ttl,
    flowLabel,
    sport,
    dport,
    seq,
    ack,
    flags,
    window,
    options,
    payloadStart,
    payloadEnd,
  };
}

/** Bytes that encodePacketInto() writes. */
export function packetLength(packet: TcpPacket, payload?: Uint8Array): number {
  return (packet.src.length === 4 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE) + tcpLength(packet, payload);
}

/**
 * Writes a packet at the start of `out`, whatever was there, with its checksums: IP header without options
 * (IPv4 with "don't fragment"), TCP header, payload. Allocates nothing. Returns the length of the packet.
 * Throws RangeError for a field out of range, addresses of different or other lengths, more than 64 KiB,
 * or an `out` that is too small; `out` may then be partly written.
 */
export function encodePacketInto(out: Uint8Array, packet: TcpPacket, payload?: Uint8Array): number {
  const isIpv4 = packet.src.length === 4;
  const headerSize = isIpv4 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE;
  const segmentLength = tcpLength(packet, payload);
  const length = headerSize + segmentLength;
  if (segmentLength > (isIpv4 ? IPV4_TOTAL_LENGTH_MAX - IPV4_HEADER_SIZE : IPV6_PAYLOAD_LENGTH_MAX)) {
    throw new RangeError(`a segment of ${segmentLength} bytes does not fit into a packet`);
  }
  assertRoom(out, 0, length);
  encodeTcp(out, headerSize, packet, payload);
  if (isIpv4) encodeIpv4(out, 0, packet, IPPROTO_TCP, segmentLength);
  else encodeIpv6(out, 0, packet, segmentLength);
  const pseudo = isIpv4
    ? pseudoHeaderSum(out, IPV4_ADDRESSES_OFFSET, 4, IPPROTO_TCP, segmentLength)
    : pseudoHeaderSum(out, IPV6_ADDRESSES_OFFSET, 16, IPPROTO_TCP, segmentLength);
  writeU16(out, headerSize + TCP_CHECK_OFFSET, checksum(out, headerSize, length, pseudo));
  return length;
}

/** As encodePacketInto(), into a new array of the right size. */
export function encodePacket(packet: TcpPacket, payload?: Uint8Array): Uint8Array {
  const out = new Uint8Array(packetLength(packet, payload));
  encodePacketInto(out, packet, payload);
  return out;
}

/**
 * True when `bytes` starts with a whole TCP packet whose checksums (TCP, and IPv4's header) are right.
 * False for anything decodePacket() refuses because of its IP headers; options are not looked at. Never throws.
 */
export function verifyPacketChecksums(bytes: Uint8Array): boolean {
  if (bytes.length === 0) return false;
  if (bytes[0]! >>> 4 === 4) {
    const ip = decodeIpv4(bytes, 0, bytes.length);
    if (ip === undefined || ip.protocol !== IPPROTO_TCP || ip.mf || ip.fragmentOffset !== 0) return false;
    if (!verifyIpv4Checksum(bytes, 0, ip.payloadStart)) return false;
    return verifySegment(bytes, IPV4_ADDRESSES_OFFSET, 4, ip.payloadStart, ip.payloadEnd);
  }
  const ip = decodeIpv6(bytes, 0, bytes.length);
  if (ip === undefined) return false;
  return verifySegment(bytes, IPV6_ADDRESSES_OFFSET, 16, ip.payloadStart, ip.payloadEnd);
}

function verifySegment(
  bytes: Uint8Array,
  addressesAt: number,
  addressLength: 4 | 16,
  start: number,
  end: number,
): boolean {
  if (end - start < TCP_HEADER_SIZE) return false;
  const pseudo = pseudoHeaderSum(bytes, addressesAt, addressLength, IPPROTO_TCP, end - start);
  return sumBytes(bytes, start, end, pseudo) === 0xffff;
}
