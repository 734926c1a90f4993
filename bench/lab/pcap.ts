/**
 * Captures in the classic pcap format with nanoseconds, packets beginning at the IP header (LINKTYPE_RAW):
 * tcpdump and Wireshark read them. Format: draft-ietf-opsawg-pcap.
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { type DecodedPacket, decodePacket } from "../../native/wire/packet.ts";

const MAGIC_NANOSECONDS = 0xa1b23c4d;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const LINKTYPE_RAW = 101;
const SNAPLEN = 0x10000;
const FILE_HEADER_SIZE = 24;
const RECORD_HEADER_SIZE = 16;
const BUFFER_SIZE = 1 << 20;

/**
 * Writes one capture. Packets gather in a buffer of 1 MiB, so that recording costs a copy: the file is
 * complete only after close().
 */
export class PcapWriter {
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_SIZE);
  #used = 0;
  readonly #originSeconds: number;
  readonly #originNanoseconds: number;

  /** Creates or empties the file. `originMs` is what times given to append() count from, since 1970. */
  constructor(path: string, originMs: number = performance.timeOrigin) {
    this.#fd = openSync(path, "w", 0o644);
    this.#originSeconds = Math.floor(originMs / 1000);
    this.#originNanoseconds = (originMs - this.#originSeconds * 1000) * 1e6;
    this.#buffer.writeUInt32LE(MAGIC_NANOSECONDS, 0);
    this.#buffer.writeUInt16LE(2, 4);
    this.#buffer.writeUInt16LE(4, 6);
    this.#buffer.writeDoubleLE(0, 8); // reserved: two u32
    this.#buffer.writeUInt32LE(SNAPLEN, 16);
    this.#buffer.writeUInt32LE(LINKTYPE_RAW, 20);
    this.#used = FILE_HEADER_SIZE;
  }

  /** Adds a packet seen `sinceOriginMs` after the origin. */
  append(sinceOriginMs: number, packet: Uint8Array): void {
    if (this.#used + RECORD_HEADER_SIZE + packet.length > BUFFER_SIZE) this.#flush();
    const nanoseconds = Math.round(this.#originNanoseconds + sinceOriginMs * 1e6);
    const seconds = Math.floor(nanoseconds / 1e9);
    const at = this.#used;
    this.#buffer.writeUInt32LE(this.#originSeconds + seconds, at);
    this.#buffer.writeUInt32LE(nanoseconds - seconds * 1e9, at + 4);
    this.#buffer.writeUInt32LE(packet.length, at + 8);
    this.#buffer.writeUInt32LE(packet.length, at + 12);
    this.#buffer.set(packet, at + RECORD_HEADER_SIZE);
    this.#used = at + RECORD_HEADER_SIZE + packet.length;
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
  }

  #flush(): void {
    for (let at = 0; at < this.#used; ) at += writeSync(this.#fd, this.#buffer, at, this.#used - at);
    this.#used = 0;
  }
}

export interface CapturedPacket {
  /** Since 1970. */
  readonly timeNs: bigint;
  /** The same, exact to a quarter of a microsecond. */
  readonly timeMs: number;
  readonly bytes: Uint8Array;
  /** Undefined when it is not a whole TCP packet. */
  readonly tcp: DecodedPacket | undefined;
}

/** Reads a capture of raw IP packets, of either time resolution and byte order. Throws Error for anything else. */
export function readPcap(path: string): CapturedPacket[] {
  const file = readFileSync(path);
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  if (file.length < FILE_HEADER_SIZE) throw new Error(`${path} is too short for a capture`);
  const little = [MAGIC_NANOSECONDS, MAGIC_MICROSECONDS].includes(view.getUint32(0, true));
  const magic = view.getUint32(0, little);
  if (magic !== MAGIC_NANOSECONDS && magic !== MAGIC_MICROSECONDS) throw new Error(`${path} is no pcap file`);
  if (view.getUint32(20, little) !== LINKTYPE_RAW) throw new Error(`${path} does not hold raw IP packets`);
  const unitNs = magic === MAGIC_NANOSECONDS ? 1n : 1000n;

  const packets: CapturedPacket[] = [];
  for (let at = FILE_HEADER_SIZE; at + RECORD_HEADER_SIZE <= file.length; ) {
    const start = at + RECORD_HEADER_SIZE;
    const end = start + view.getUint32(at + 8, little);
    if (end > file.length) throw new Error(`${path} ends inside a packet`);
    const timeNs =
      BigInt(view.getUint32(at, little)) * 1_000_000_000n + BigInt(view.getUint32(at + 4, little)) * unitNs;
    const bytes = Uint8Array.from(file.subarray(start, end));
    packets.push({ timeNs, timeMs: Number(timeNs) / 1e6, bytes, tcp: decodePacket(bytes) });
    at = end;
  }
  return packets;
}
