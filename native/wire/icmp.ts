/**
 * The ICMP error that RFC 6069 has a sender take as news that a path works again: "host unreachable" (IPv6: "no
 * route"), which quotes the segment it is about. Read RFC 792, RFC 4443 section 3.1 and RFC 6069 first.
 */
import { IPPROTO_ICMP, IPPROTO_ICMPV6 } from "../abi/icmp.ts";
import { IPPROTO_TCP } from "../abi/socket.ts";
import { assertRoom, writeU16 } from "./bytes.ts";
import { checksum, pseudoHeaderSum } from "./checksum.ts";
import { encodeIpv4, IPV4_HEADER_SIZE } from "./ipv4.ts";
import { encodeIpv6, IPV6_ADDRESSES_OFFSET, IPV6_HEADER_SIZE } from "./ipv6.ts";
import type { TcpPacket } from "./packet.ts";
import { encodeTcp, TCP_HEADER_SIZE, type TcpSegment } from "./tcp.ts";

// RFC 792 and RFC 4443: type, code, checksum, four unused bytes.
const HEADER_SIZE = 8;
const CHECK_OFFSET = 2;
const ICMP_DEST_UNREACH = 3;
const ICMP_HOST_UNREACH = 1;
const ICMPV6_DEST_UNREACH = 1;
const ICMPV6_NOROUTE = 0;

type Ends = Pick<TcpPacket, "src" | "dst">;

/** A segment somebody sent; its options are not quoted. */
export type Quoted = Ends & Omit<TcpSegment, "options"> & { readonly ttl: number };

/**
 * Writes the whole packet at the start of `out`: from the quoted segment's destination to its source. Returns its
 * length, at most 108 bytes. Throws RangeError as encodePacketInto().
 */
export function encodeUnreachableInto(out: Uint8Array, quoted: Quoted): number {
  const { src, dst, ttl } = quoted;
  const isIpv4 = src.length === 4;
  const ipSize = isIpv4 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE;
  const payload = HEADER_SIZE + ipSize + TCP_HEADER_SIZE;
  const length = ipSize + payload;
  assertRoom(out, 0, length);
  const encodeIp = (at: number, ends: Ends, protocol: number, size: number): void => {
    if (isIpv4) encodeIpv4(out, at, { ...ends, ttl }, protocol, size);
    else encodeIpv6(out, at, { ...ends, ttl }, size, protocol);
  };
  encodeIp(0, { src: dst, dst: src }, isIpv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, payload);
  out[ipSize] = isIpv4 ? ICMP_DEST_UNREACH : ICMPV6_DEST_UNREACH;
  out[ipSize + 1] = isIpv4 ? ICMP_HOST_UNREACH : ICMPV6_NOROUTE;
  out.fill(0, ipSize + CHECK_OFFSET, ipSize + HEADER_SIZE);
  encodeIp(ipSize + HEADER_SIZE, { src, dst }, IPPROTO_TCP, TCP_HEADER_SIZE);
  encodeTcp(out, 2 * ipSize + HEADER_SIZE, { ...quoted, options: {} });
  const pseudo = isIpv4 ? 0 : pseudoHeaderSum(out, IPV6_ADDRESSES_OFFSET, 16, IPPROTO_ICMPV6, payload);
  writeU16(out, ipSize + CHECK_OFFSET, checksum(out, ipSize, length, pseudo));
  return length;
}
