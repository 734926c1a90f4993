import { writeU32 } from "./bytes.ts";
import { replaceU16, replaceU32 } from "./checksum.ts";
import { IPV4_CHECK_OFFSET, IPV4_HEADER_SIZE, IPV4_ID_OFFSET } from "./ipv4.ts";
import { IPV6_HEADER_SIZE } from "./ipv6.ts";
import { encodePacket, type TcpPacket } from "./packet.ts";
import { TCP_CHECK_OFFSET, TCP_HEADER_SIZE, TCP_SEQ_OFFSET, TCP_SPORT_OFFSET } from "./tcp.ts";
import { tsvalOffset } from "./tcp-options.ts";

/** A packet sent over and over with a few other fields: encoded once, then only these and the checksums change. */
export class SegmentTemplate {
  readonly #bytes: Uint8Array;
  readonly #isIpv4: boolean;
  readonly #tcp: number;
  readonly #tsval: number | undefined;

  /** The packet's own source port, sequence number, TSval and identification do not matter. */
  constructor(packet: TcpPacket) {
    this.#bytes = encodePacket(packet);
    this.#isIpv4 = packet.src.length === 4;
    this.#tcp = this.#isIpv4 ? IPV4_HEADER_SIZE : IPV6_HEADER_SIZE;
    const inOptions = tsvalOffset(packet.options);
    this.#tsval = inOptions === undefined ? undefined : this.#tcp + TCP_HEADER_SIZE + inOptions;
  }

  /**
   * The packet with these fields (u16, u32, u32): valid until the next call. `label` is the identification of
   * IPv4 (its low 16 bits) or the flow label of IPv6 (20 bits). Without timestamps `tsval` is ignored.
   */
  fill(sport: number, seq: number, tsval: number, label: number): Uint8Array {
    const bytes = this.#bytes;
    const check = this.#tcp + TCP_CHECK_OFFSET;
    if (this.#isIpv4) replaceU16(bytes, IPV4_ID_OFFSET, label & 0xffff, IPV4_CHECK_OFFSET);
    else writeU32(bytes, 0, (6 << 28) | (label & 0xfffff));
    replaceU16(bytes, this.#tcp + TCP_SPORT_OFFSET, sport, check);
    replaceU32(bytes, this.#tcp + TCP_SEQ_OFFSET, seq, check);
    if (this.#tsval !== undefined) replaceU32(bytes, this.#tsval, tsval, check);
    return bytes;
  }
}
