/**
 * The packets of a half-open connection, made from its entry: the SYN (and its repetition, which is the
 * same SYN), the RST that gives it up, the ACK that completes it, and the ACK that seeds ts_recent.
 */
import { RawSender } from "../native/net/raw-sender.ts";
import { SegmentTemplate } from "../native/wire/segment-template.ts";
import { ACK, RST, SYN } from "../native/wire/tcp.ts";
import { ENTRY, type EntryTable, OPTION_TIMESTAMPS } from "./entry-table.ts";

/** What this kernel negotiates at all (net.ipv4.tcp_timestamps, tcp_sack, tcp_window_scaling). */
export interface SynOptions {
  readonly timestamps: boolean;
  readonly sack: boolean;
  readonly wscale: number | undefined;
}

/** One end of many: the destination of a pool. */
export interface Destination {
  readonly address: Uint8Array;
  readonly port: number;
}

/** The SYN as last sent to a destination, with what the route gave it. */
interface RoutedSyn {
  readonly src: Uint8Array;
  readonly mss: number;
  readonly window: number;
  readonly ttl: number;
  readonly template: SegmentTemplate;
}

export class HandshakeWire {
  readonly #table: EntryTable;
  readonly #syns = new WeakMap<Destination, RoutedSyn>();
  readonly #senders = new Map<4 | 6, RawSender>();
  readonly #mark: number | undefined;

  /** Opens its sockets when they are first needed; close() ends them. Packets have SO_MARK `mark`, if one is given. */
  constructor(table: EntryTable, mark?: number) {
    this.#table = table;
    this.#mark = mark;
  }

  /** Opens the socket of a family now. Throws SyscallError EPERM without CAP_NET_RAW, EAFNOSUPPORT. */
  open(family: 4 | 6): void {
    this.#sender(family);
  }

  /** The entry's SYN; sent again it is the same SYN. Returns 0 or an error number. */
  syn(entry: number, to: Destination, options: SynOptions): number {
    const table = this.#table;
    const sport = table.get(entry, ENTRY.port);
    const packet = this.#synTo(entry, to, options).fill(
      sport,
      table.getU32(entry, ENTRY.iss),
      table.getU32(entry, ENTRY.synTsval),
      labelOf(sport),
    );
    return this.#sender(familyOf(to.address)).sendBytes(packet, to.address);
  }

  /** A bare RST at `seq`, iss+1 for a connection that sent nothing. */
  reset(entry: number, to: Destination, seq: number): number {
    const table = this.#table;
    return this.#send(to, table.source(entry, to.address.length), {
      sport: table.get(entry, ENTRY.port),
      seq,
      ack: 0,
      flags: RST,
      window: 0,
      ttl: table.get(entry, ENTRY.hopLimit),
      options: {},
    });
  }

  /** The ACK of the SYN-ACK. `tsecr` 0 unless the upstream needs its own value back (SYN cookies). */
  ack(entry: number, to: Destination, tsval: number, tsecr: number): number {
    const table = this.#table;
    const stamped = (table.get(entry, ENTRY.options) & OPTION_TIMESTAMPS) !== 0;
    return this.#send(to, table.source(entry, to.address.length), {
      sport: table.get(entry, ENTRY.port),
      seq: (table.getU32(entry, ENTRY.iss) + 1) >>> 0,
      ack: (table.getU32(entry, ENTRY.irs) + 1) >>> 0,
      flags: ACK,
      window: table.get(entry, ENTRY.synWindow) >>> table.get(entry, ENTRY.rcv_wscale),
      ttl: table.get(entry, ENTRY.hopLimit),
      options: stamped ? { tsval, tsecr } : {},
    });
  }

  /**
   * A pure ACK as if from the upstream, to our own socket: it sets ts_recent, so that our first segment
   * echoes the TSval in which a SYN-cookie server keeps wscale and SACK. Changes nothing else.
   */
  seed(entry: number, from: Destination, tsval: number): number {
    const table = this.#table;
    const local = table.source(entry, from.address.length).slice();
    const packet = {
      src: from.address,
      dst: local,
      sport: from.port,
      dport: table.get(entry, ENTRY.port),
      seq: (table.getU32(entry, ENTRY.irs) + 1) >>> 0,
      ack: (table.getU32(entry, ENTRY.iss) + 1) >>> 0,
      flags: ACK,
      window: table.get(entry, ENTRY.snd_wnd) >>> table.get(entry, ENTRY.snd_wscale),
      ttl: 64,
      options: { tsval: table.getU32(entry, ENTRY.synackTsval), tsecr: tsval },
    };
    return this.#sender(familyOf(local)).send(packet);
  }

  close(): void {
    for (const sender of this.#senders.values()) sender.close();
    this.#senders.clear();
  }

  /** The template of the SYNs to a destination: the last one, unless its route has changed since. */
  #synTo(entry: number, to: Destination, options: SynOptions): SegmentTemplate {
    const table = this.#table;
    const src = table.source(entry, to.address.length);
    const mss = table.get(entry, ENTRY.advmss);
    const window = table.get(entry, ENTRY.synWindow);
    const ttl = table.get(entry, ENTRY.hopLimit);
    const last = this.#syns.get(to);
    if (last?.mss === mss && last.window === window && last.ttl === ttl && equals(last.src, src)) {
      return last.template;
    }
    const template = new SegmentTemplate({
      src,
      dst: to.address,
      sport: 0,
      dport: to.port,
      seq: 0,
      ack: 0,
      flags: SYN,
      window,
      ttl,
      options: {
        mss,
        ...(options.sack && { sackPermitted: true }),
        ...(options.timestamps && { tsval: 0, tsecr: 0 }),
        ...(options.wscale !== undefined && { wscale: options.wscale }),
      },
    });
    this.#syns.set(to, { src: src.slice(), mss, window, ttl, template });
    return template;
  }

  #send(
    to: Destination,
    src: Uint8Array,
    segment: Omit<Parameters<RawSender["send"]>[0], "src" | "dst" | "dport" | "id">,
  ): number {
    const flowLabel = labelOf(segment.sport);
    const id = flowLabel & 0xffff;
    return this.#sender(familyOf(to.address)).send({
      ...segment,
      src,
      dst: to.address,
      dport: to.port,
      id,
      flowLabel,
    });
  }

  #sender(family: 4 | 6): RawSender {
    let sender = this.#senders.get(family);
    if (sender === undefined) {
      sender = new RawSender(family, this.#mark);
      this.#senders.set(family, sender);
    }
    return sender;
  }
}

function familyOf(address: Uint8Array): 4 | 6 {
  return address.length === 4 ? 4 : 6;
}

/**
 * The flow label, whose low 16 bits are the IPv4 identification. Any value will do, as long as it does not tell
 * ours from the kernel's, which are random per socket.
 */
function labelOf(port: number): number {
  return Math.imul(port, 2654435761) & 0xfffff;
}

function equals(a: Uint8Array, b: Uint8Array): boolean {
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}
