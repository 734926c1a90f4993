/**
 * Ethernet frames by which a host tells its network that an address is now at its interface: a gratuitous ARP request
 * (RFC 5227 section 3, "announcement") and an unsolicited neighbour advertisement (RFC 4861 section 7.2.6).
 */
import { ETH_P_ARP, ETH_P_IPV6 } from "../abi/packet.ts";
import { checksum, pseudoHeaderSum } from "./checksum.ts";
import { encodeIpv6, IPV6_ADDRESSES_OFFSET, IPV6_HEADER_SIZE } from "./ipv6.ts";

export const ETHERNET_HEADER_SIZE = 14;
const MAC_SIZE = 6;
const BROADCAST = new Uint8Array(MAC_SIZE).fill(0xff);
/** Of ff02::1, all nodes (RFC 2464 section 7). */
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

const ARP_SIZE = 28;
const ARP_REQUEST = 1;
const HARDWARE_ETHERNET = 1;
const PROTOCOL_IPV4 = 0x0800;

const IPPROTO_ICMPV6 = 58;
const NEIGHBOUR_ADVERTISEMENT = 136;
const ADVERTISEMENT_SIZE = 32;
const FLAG_OVERRIDE = 0x20;
const TARGET_LINK_LAYER_ADDRESS = 2;
const HOP_LIMIT = 255;

/** The frame that says `address` (4 or 16 bytes) is at `mac`, complete with its Ethernet header. */
export function encodeAnnouncement(mac: Uint8Array, address: Uint8Array): Uint8Array {
  return address.length === 4 ? encodeArp(mac, address) : encodeAdvertisement(mac, address);
}

function encodeArp(mac: Uint8Array, address: Uint8Array): Uint8Array {
  const frame = ethernet(BROADCAST, mac, ETH_P_ARP, ARP_SIZE);
  const arp = Buffer.from(frame.buffer, ETHERNET_HEADER_SIZE);
  arp.writeUInt16BE(HARDWARE_ETHERNET, 0);
  arp.writeUInt16BE(PROTOCOL_IPV4, 2);
  arp.writeUInt8(MAC_SIZE, 4);
  arp.writeUInt8(address.length, 5);
  arp.writeUInt16BE(ARP_REQUEST, 6);
  arp.set(mac, 8);
  arp.set(address, 14);
  arp.set(address, 24);
  return frame;
}

function encodeAdvertisement(mac: Uint8Array, address: Uint8Array): Uint8Array {
  const frame = ethernet(ALL_NODES_MAC, mac, ETH_P_IPV6, IPV6_HEADER_SIZE + ADVERTISEMENT_SIZE);
  encodeIpv6(
    frame,
    ETHERNET_HEADER_SIZE,
    { src: address, dst: ALL_NODES, ttl: HOP_LIMIT },
    ADVERTISEMENT_SIZE,
    IPPROTO_ICMPV6,
  );
  const start = ETHERNET_HEADER_SIZE + IPV6_HEADER_SIZE;
  const icmp = Buffer.from(frame.buffer, start);
  icmp.writeUInt8(NEIGHBOUR_ADVERTISEMENT, 0);
  icmp.writeUInt8(FLAG_OVERRIDE, 4);
  icmp.set(address, 8);
  icmp.writeUInt8(TARGET_LINK_LAYER_ADDRESS, 24);
  icmp.writeUInt8(1, 25); // in units of 8 bytes
  icmp.set(mac, 26);
  const addressesAt = ETHERNET_HEADER_SIZE + IPV6_ADDRESSES_OFFSET;
  const sum = pseudoHeaderSum(frame, addressesAt, 16, IPPROTO_ICMPV6, ADVERTISEMENT_SIZE);
  icmp.writeUInt16BE(checksum(frame, start, frame.length, sum), 2);
  return frame;
}

function ethernet(dst: Uint8Array, src: Uint8Array, type: number, payload: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(ETHERNET_HEADER_SIZE + payload);
  frame.set(dst, 0);
  frame.set(src, MAC_SIZE);
  new DataView(frame.buffer).setUint16(2 * MAC_SIZE, type);
  return frame;
}
