import { isIP, isIPv4 } from "node:net";
import { endianness } from "node:os";
import { AF_INET, AF_INET6, SOCKADDR_IN_SIZE, SOCKADDR_IN6_SIZE } from "./abi/socket.ts";
import { assertRoom, assertU16, readU16, writeU16 } from "./wire/bytes.ts";

/**
 * Addresses in their three forms: text, bytes in network order, and the kernel's sockaddr.
 *
 * Text that leaves here is canonical, so that two texts are equal exactly when the addresses are: RFC 5952,
 * lower case, without brackets or zone, an IPv4-mapped address as ::ffff:192.0.2.7.
 */

export type Family = 4 | 6;

export interface Endpoint {
  /** Canonical text of an IPv4 or IPv6 address. */
  readonly address: string;
  /** 0..65535 */
  readonly port: number;
}

// struct sockaddr_in and sockaddr_in6: include/uapi/linux/in.h and in6.h. The family is in host order.
const PORT_OFFSET = 2;
const IN_ADDRESS_OFFSET = 4;
const IN6_ADDRESS_OFFSET = 8;
const FAMILY_LOW_BYTE = endianness() === "LE" ? 0 : 1;

/**
 * The bytes of an address, 4 or 16; `undefined` for any other text. Strict: four decimal numbers without
 * leading zeros, or IPv6 as RFC 4291 section 2.2 has it; no zone, brackets or spaces.
 */
export function parseAddress(text: string): Uint8Array | undefined {
  switch (isIP(text)) {
    case 4:
      return Uint8Array.from(text.split("."), Number);
    case 6:
      return text.includes("%") ? undefined : parseIpv6(text);
    default:
      return undefined;
  }
}

/** `text` is known to be a valid IPv6 address without a zone. */
function parseIpv6(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  const gap = text.indexOf("::");
  if (gap < 0) {
    writeGroups(bytes, 0, groupsOf(text));
    return bytes;
  }
  const tail = groupsOf(text.slice(gap + 2));
  writeGroups(bytes, 0, groupsOf(text.slice(0, gap)));
  writeGroups(bytes, 16 - 2 * tail.length, tail);
  return bytes;
}

/** The 16-bit groups of one side of "::"; a dotted IPv4 address at the end gives two. */
function groupsOf(text: string): number[] {
  if (text === "") return [];
  return text.split(":").flatMap((group) => {
    if (!isIPv4(group)) return Number.parseInt(group, 16);
    const bytes = Uint8Array.from(group.split("."), Number);
    return [readU16(bytes, 0), readU16(bytes, 2)];
  });
}

function writeGroups(bytes: Uint8Array, at: number, groups: readonly number[]): void {
  for (const [i, group] of groups.entries()) writeU16(bytes, at + 2 * i, group);
}

/** The canonical text of 4 or 16 bytes. Throws RangeError for any other length. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(readU16(bytes, at));
  if (groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0)) {
    return `::ffff:${bytes.subarray(12).join(".")}`;
  }
  const zeros = longestZeroRun(groups);
  if (zeros.length < 2) return hex(groups);
  return `${hex(groups.slice(0, zeros.start))}::${hex(groups.slice(zeros.start + zeros.length))}`;
}

function hex(groups: readonly number[]): string {
  return groups.map((group) => group.toString(16)).join(":");
}

/** The longest run of zero groups, the first of several (RFC 5952 section 4.2.3). */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let longest = { start: 0, length: 0 };
  let length = 0;
  for (const [i, group] of groups.entries()) {
    length = group === 0 ? length + 1 : 0;
    if (length > longest.length) longest = { start: i + 1 - length, length };
  }
  return longest;
}

/** The family of an address; an IPv4-mapped one is IPv6. Throws RangeError for what parseAddress() refuses. */
export function familyOf(address: string): Family {
  const family = isIP(address);
  if (family === 4 || (family === 6 && !address.includes("%"))) return family;
  throw new RangeError(`not an IP address: ${JSON.stringify(address)}`);
}

/** "10.0.0.7:8080" or "[2001:db8::7]:8080". */
export function formatEndpoint({ address, port }: Endpoint): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/**
 * Reads what formatEndpoint() writes, the address in any valid spelling; the result has it canonical.
 * `undefined` for anything else: a name, a missing or padded port, IPv6 without brackets, IPv4 in them.
 */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^(?:\[([^[\]]+)\]|([^[\]:]+)):(0|[1-9][0-9]{0,4})$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, plain, digits] = match;
  const bytes = parseAddress(bracketed ?? plain!);
  const port = Number(digits);
  if (bytes === undefined || port > 0xffff) return undefined;
  if (bytes.length !== (bracketed === undefined ? 4 : 16)) return undefined;
  return { address: formatAddress(bytes), port };
}

/** A sockaddr_in (16 bytes) or sockaddr_in6 (28). Throws RangeError for a bad address or port. */
export function encodeSockaddr({ address, port }: Endpoint): Uint8Array {
  const bytes = parseAddress(address);
  if (bytes === undefined) throw new RangeError(`not an IP address: ${JSON.stringify(address)}`);
  const out = new Uint8Array(bytes.length === 4 ? SOCKADDR_IN_SIZE : SOCKADDR_IN6_SIZE);
  encodeSockaddrInto(out, bytes, port);
  return out;
}

/**
 * Writes a sockaddr at the start of `out`, whatever was there; flow label and scope are zero. Returns its
 * length, 16 for an address of 4 bytes and 28 for one of 16. Allocates nothing.
 * Throws RangeError for another address length, a bad port, or an `out` that is too small.
 */
export function encodeSockaddrInto(out: Uint8Array, addressBytes: Uint8Array, port: number): number {
  const isIpv4 = addressBytes.length === 4;
  if (!isIpv4 && addressBytes.length !== 16) {
    throw new RangeError(`an address has 4 or 16 bytes, not ${addressBytes.length}`);
  }
  const length = isIpv4 ? SOCKADDR_IN_SIZE : SOCKADDR_IN6_SIZE;
  assertU16("port", port);
  assertRoom(out, 0, length);
  out.fill(0, 0, length);
  out[FAMILY_LOW_BYTE] = isIpv4 ? AF_INET : AF_INET6;
  writeU16(out, PORT_OFFSET, port);
  out.set(addressBytes, isIpv4 ? IN_ADDRESS_OFFSET : IN6_ADDRESS_OFFSET);
  return length;
}

/**
 * Reads a sockaddr the kernel wrote; bytes behind it do not matter. A scope is dropped: link-local addresses
 * are not told apart by interface. `undefined` for another family or too few bytes.
 */
export function decodeSockaddr(bytes: Uint8Array): Endpoint | undefined {
  if (bytes.length < SOCKADDR_IN_SIZE || bytes[1 - FAMILY_LOW_BYTE] !== 0) return undefined;
  const port = readU16(bytes, PORT_OFFSET);
  switch (bytes[FAMILY_LOW_BYTE]) {
    case AF_INET:
      return { address: formatAddress(bytes.subarray(IN_ADDRESS_OFFSET, IN_ADDRESS_OFFSET + 4)), port };
    case AF_INET6:
      if (bytes.length < SOCKADDR_IN6_SIZE) return undefined;
      return { address: formatAddress(bytes.subarray(IN6_ADDRESS_OFFSET, IN6_ADDRESS_OFFSET + 16)), port };
    default:
      return undefined;
  }
}
