/**
 * The PROXY protocol, versions 1 and 2: what a proxy says of its client before the client's own bytes.
 * https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt is the specification.
 *
 *   v1   "PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n", at most 107 bytes
 *   v2   signature 12, version and command 1, family and transport 1, length 2, then that many bytes: addresses, TLVs
 */
import { formatAddress, parseAddress } from "../address.ts";
import { readU16, readU32, writeU16 } from "./bytes.ts";

/** One end of the connection that a header tells of. */
export interface ProxyEnd {
  /** 4 or 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
}

/** The connection that a header tells of; both ends are of one family. */
export interface ProxiedConnection {
  readonly source: ProxyEnd;
  readonly destination: ProxyEnd;
}

export interface ProxyHeader {
  readonly version: 1 | 2;
  /** local: of the proxy's own, a health check for example. unknown: of a client whose addresses it cannot say. */
  readonly kind: "local" | "unknown" | "proxied";
  /** Where `kind` is proxied. */
  readonly connection: ProxiedConnection | undefined;
  /** As received, TLVs and all; a copy. */
  readonly bytes: Uint8Array;
}

/** Which versions a reader takes. */
export type AcceptedVersions = "v1" | "v2" | "any";

export type DecodedHeader =
  | { readonly kind: "header"; readonly header: ProxyHeader }
  | { readonly kind: "incomplete" }
  | { readonly kind: "malformed"; readonly reason: string };

/** The longest v2 header that is read, bytes. The format allows 65,551; HAProxy and nginx stop earlier too. */
export const PROXY_HEADER_MAX = 4_096;

const V1_MAX = 107;
const V1_START = Uint8Array.from("PROXY ", (char) => char.charCodeAt(0));
const [CR, LF] = [13, 10];

const SIGNATURE = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
const OFFSET = { versionCommand: 12, family: 13, length: 14, addresses: 16 } as const;
const VERSION_2 = 0x20;
const [LOCAL, PROXY] = [0, 1];
const [UNSPEC, TCP4, TCP6] = [0x00, 0x11, 0x21];
/** Bytes of the two addresses and ports, by the address family in the high four bits; the last is AF_UNIX. */
const ADDRESS_BYTES = [0, 12, 36, 216] as const;
const PP2_TYPE_CRC32C = 0x03;

const incomplete = { kind: "incomplete" } as const;
const malformed = (reason: string): DecodedHeader => ({ kind: "malformed", reason });

/** Reads the header at the start of what a client sent. What is wrong is said as soon as it can be known. */
export function decodeProxyHeader(bytes: Uint8Array, accept: AcceptedVersions): DecodedHeader {
  if (accept !== "v1" && startsAlike(bytes, SIGNATURE)) return decodeV2(bytes);
  if (accept !== "v2" && startsAlike(bytes, V1_START)) return decodeV1(bytes);
  return malformed(accept === "any" ? "no PROXY header" : `no PROXY header of ${accept}`);
}

/** True when all bytes of `start` that can be there are. */
function startsAlike(bytes: Uint8Array, start: Uint8Array): boolean {
  const length = Math.min(bytes.length, start.length);
  for (let at = 0; at < length; at++) if (bytes[at] !== start[at]) return false;
  return true;
}

function decodeV1(bytes: Uint8Array): DecodedHeader {
  const end = bytes.subarray(0, V1_MAX).indexOf(LF);
  if (end < 0) return bytes.length < V1_MAX ? incomplete : malformed("a line of more than 107 bytes");
  if (bytes[end - 1] !== CR) return malformed("a line without a carriage return");
  const line = String.fromCharCode(...bytes.subarray(0, end - 1));
  const header = { version: 1, bytes: bytes.slice(0, end + 1) } as const;
  const [, protocol, ...words] = line.split(" ");
  // What follows UNKNOWN is to be ignored.
  if (protocol === "UNKNOWN")
    return { kind: "header", header: { ...header, kind: "unknown", connection: undefined } };
  const length = protocol === "TCP4" ? 4 : protocol === "TCP6" ? 16 : undefined;
  if (length === undefined) return malformed("a protocol other than TCP4, TCP6 and UNKNOWN");
  if (words.length !== 4) return malformed("not two addresses and two ports");
  const source = endOf(words[0], words[2], length);
  const destination = endOf(words[1], words[3], length);
  if (!source || !destination) return malformed(`an address or port that is none of ${protocol}`);
  return { kind: "header", header: { ...header, kind: "proxied", connection: { source, destination } } };
}

function endOf(
  addressText: string | undefined,
  portText: string | undefined,
  length: 4 | 16,
): ProxyEnd | undefined {
  const address = parseAddress(addressText ?? "");
  const port = /^(0|[1-9]\d{0,4})$/.test(portText ?? "") ? Number(portText) : Number.NaN;
  return address?.length === length && port <= 0xffff ? { address, port } : undefined;
}

function decodeV2(bytes: Uint8Array): DecodedHeader {
  if (bytes.length < OFFSET.addresses) return incomplete;
  const [version, command] = [bytes[OFFSET.versionCommand]! & 0xf0, bytes[OFFSET.versionCommand]! & 0x0f];
  const family = bytes[OFFSET.family]!;
  const length = OFFSET.addresses + readU16(bytes, OFFSET.length);
  if (version !== VERSION_2) return malformed(`version ${version >> 4}`);
  if (command !== LOCAL && command !== PROXY) return malformed(`command ${command}`);
  const addressBytes = ADDRESS_BYTES[family >> 4];
  if (addressBytes === undefined || (family & 0x0f) > 2) return malformed(`address family ${family}`);
  if (length > PROXY_HEADER_MAX) return malformed(`a header of ${length} bytes`);
  if (command === PROXY && length < OFFSET.addresses + addressBytes)
    return malformed("no room for its addresses");
  if (bytes.length < length) return incomplete;
  const header = { version: 2, bytes: bytes.slice(0, length) } as const;
  // The addresses of a local one are to be ignored, and with them what their length would say.
  if (command === LOCAL)
    return { kind: "header", header: { ...header, kind: "local", connection: undefined } };
  const flaw = findTlvFlaw(header.bytes, OFFSET.addresses + addressBytes);
  if (flaw !== undefined) return malformed(flaw);
  if (family !== TCP4 && family !== TCP6)
    return { kind: "header", header: { ...header, kind: "unknown", connection: undefined } };
  const connection = connectionAt(header.bytes, family === TCP4 ? 4 : 16);
  return { kind: "header", header: { ...header, kind: "proxied", connection } };
}

function connectionAt(bytes: Uint8Array, size: 4 | 16): ProxiedConnection {
  const at = OFFSET.addresses;
  return {
    source: { address: bytes.subarray(at, at + size), port: readU16(bytes, at + 2 * size) },
    destination: {
      address: bytes.subarray(at + size, at + 2 * size),
      port: readU16(bytes, at + 2 * size + 2),
    },
  };
}

/** What is wrong with the TLVs from `start` to the end: type 1, length 2, then that many bytes. */
function findTlvFlaw(bytes: Uint8Array, start: number): string | undefined {
  for (let at = start; at < bytes.length; ) {
    const length = at + 3 <= bytes.length ? readU16(bytes, at + 1) : bytes.length;
    const end = at + 3 + length;
    if (end > bytes.length) return "a TLV that does not end";
    if (bytes[at] === PP2_TYPE_CRC32C) {
      if (length !== 4) return "a checksum that is not of four bytes";
      const zeroed = bytes.slice().fill(0, at + 3, end);
      if (crc32c(zeroed) !== readU32(bytes, at + 3)) return "a wrong checksum";
    }
    at = end;
  }
  return undefined;
}

/** A header for a client's connection; without one, for a client whose addresses nobody knows. */
export function encodeProxyHeader(version: 1 | 2, connection: ProxiedConnection | undefined): Uint8Array {
  return version === 1 ? encodeV1(connection) : encodeV2(connection);
}

/** The same header for another reader: unchanged where the version stays, else what the other version can say. */
export function translateProxyHeader(version: 1 | 2, header: ProxyHeader): Uint8Array {
  if (header.version === version) return header.bytes;
  return encodeProxyHeader(version, header.connection);
}

function encodeV1(connection: ProxiedConnection | undefined): Uint8Array {
  return Uint8Array.from(lineOf(connection), (char) => char.charCodeAt(0));
}

function lineOf(connection: ProxiedConnection | undefined): string {
  if (connection === undefined) return "PROXY UNKNOWN\r\n";
  const { source, destination } = connection;
  const protocol = sizeOf(connection) === 4 ? "TCP4" : "TCP6";
  const addresses = `${formatAddress(source.address)} ${formatAddress(destination.address)}`;
  return `PROXY ${protocol} ${addresses} ${source.port} ${destination.port}\r\n`;
}

function encodeV2(connection: ProxiedConnection | undefined): Uint8Array {
  const size = connection === undefined ? 0 : sizeOf(connection);
  const length = size === 0 ? 0 : 2 * size + 4;
  const out = new Uint8Array(OFFSET.addresses + length);
  out.set(SIGNATURE);
  out[OFFSET.versionCommand] = VERSION_2 | PROXY;
  out[OFFSET.family] = size === 0 ? UNSPEC : size === 4 ? TCP4 : TCP6;
  writeU16(out, OFFSET.length, length);
  if (connection === undefined) return out;
  const { source, destination } = connection;
  out.set(source.address, OFFSET.addresses);
  out.set(destination.address, OFFSET.addresses + size);
  writeU16(out, OFFSET.addresses + 2 * size, source.port);
  writeU16(out, OFFSET.addresses + 2 * size + 2, destination.port);
  return out;
}

/** Throws RangeError for ends of different families. */
function sizeOf({ source, destination }: ProxiedConnection): 4 | 16 {
  const { length } = source.address;
  if (length !== destination.address.length || (length !== 4 && length !== 16)) {
    throw new RangeError("both ends of a connection are of one address family");
  }
  return length;
}

/** RFC 3720 appendix B.4: the polynomial of Castagnoli, reflected. */
const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) crc = CRC32C_TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}
