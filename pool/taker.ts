/**
 * Takes half-opens, on any thread: a compare-and-swap on an offer, then the restore plan right there.
 * One Taker per thread and pool.
 */

import { IP_TRANSPARENT, IPPROTO_IP } from "../native/abi/socket.ts";
import { parseAddress } from "../native/address.ts";
import { ageMs32, nowMs, nowMs32 } from "../native/clock.ts";
import { SyscallError } from "../native/errno.ts";
import { fromHandshake, type IntOption } from "../native/repair/image.ts";
import { restorePlan } from "../native/repair/plan.ts";
import { restoreBySyscalls } from "../native/repair/restore.ts";
import { setIntOption } from "../native/sockopt.ts";
import {
  ENDINGS,
  ENTRY,
  type Ending,
  type EntryTable,
  OPTION_COOKIE,
  OPTION_SACK,
  OPTION_TIMESTAMPS,
  OPTION_WSCALE,
  type Verdict,
} from "./entry-table.ts";
import type { Destination, HandshakeWire } from "./handshake-wire.ts";
import { PoolBlock, type PoolShare } from "./pool-block.ts";
import { tsvalAt } from "./sequence.ts";
import type { KeeperSignal } from "./signal.ts";

/** An established socket made of a half-open. The descriptor is the caller's; the entry ends by finish(). */
export interface Lease {
  readonly fd: number;
  readonly entry: number;
}

/** A lease as it travels with its socket. The entry is at the same index in the table of whoever adopts it. */
export interface LeaseRecord {
  readonly entry: number;
  readonly port: number;
  readonly verdict: Verdict;
}

export class Taker {
  readonly share: PoolShare;
  readonly block: PoolBlock;
  readonly #table: EntryTable;
  readonly #wire: HandshakeWire;
  readonly #signal: KeeperSignal;
  readonly #options: readonly IntOption[];
  readonly #socketFlags: number;
  readonly #destination: Destination;

  /** Sockets are made with `socketFlags` (SOCK_NONBLOCK or 0) and have `options` set. */
  constructor(
    share: PoolShare,
    shared: { readonly table: EntryTable; readonly wire: HandshakeWire; readonly signal: KeeperSignal },
    options: readonly IntOption[],
    socketFlags: number,
  ) {
    const address = parseAddress(share.server.address);
    if (!address) throw new Error(`not an address: ${share.server.address}`);
    this.share = share;
    this.block = new PoolBlock(share.max, share.buffer);
    this.#table = shared.table;
    this.#wire = shared.wire;
    this.#signal = shared.signal;
    const transparent = { level: IPPROTO_IP, name: IP_TRANSPARENT, value: 1 };
    this.#options = [
      ...options,
      ...share.socketOptions,
      ...(share.source === undefined ? [] : [transparent]),
    ];
    this.#socketFlags = socketFlags;
    this.#destination = { address, port: share.server.port };
  }

  /**
   * An established socket to the pool's server, or undefined when none is ready: connect in the ordinary
   * way then. Counts a hit or a miss and wakes the keeper. Sends nothing (to cookie servers, one packet to
   * ourselves). Never throws: what goes wrong with one entry makes it a miss.
   *
   * An entry whose SYN is on its way again is the second choice, and none for who `needsProof`. If the upstream has
   * forgotten it, that SYN opens another half-open, whose SYN-ACK meets our socket, which answers with an ACK: the RST
   * for the first flight no longer proves what it would have proved, and the client gets it.
   */
  take(needsProof = false): Lease | undefined {
    const lease = this.block.get("paused") === 1 ? undefined : this.#takeReady(needsProof);
    this.block.add(lease ? "hits" : "misses");
    this.#signal.touch(this.block.isShort);
    return lease;
  }

  /** The round trip to the server as the keeper measures it; 0 before it did. */
  get rttMs(): number {
    return this.block.get("rttUs") / 1e3;
  }

  record({ entry }: Lease): LeaseRecord {
    return { entry, port: this.#table.get(entry, ENTRY.port), verdict: this.#table.verdict(entry) };
  }

  /** The lease of a socket that came with a record; undefined when its entry did not come: it needs no care then. */
  adopt(fd: number, { entry, port, verdict }: LeaseRecord): Lease | undefined {
    const table = this.#table;
    if (entry >= table.capacity || table.state(entry) !== "leased") return undefined;
    if (table.get(entry, ENTRY.pool) !== this.share.id || table.get(entry, ENTRY.port) !== port)
      return undefined;
    for (const { level, name, value } of this.share.socketOptions) setIntOption(fd, level, name, value);
    if (table.verdict(entry) === "none") table.setVerdict(entry, verdict);
    return { fd, entry };
  }

  /**
   * Completes the handshake without data, so that a server which speaks first is heard. After this the
   * first flight must never be replayed.
   */
  sendAck({ entry }: Lease): void {
    const tsecr = this.#isCookie(entry) ? this.#table.getU32(entry, ENTRY.synackTsval) : 0;
    this.#wire.ack(entry, this.#destination, this.#tsval(entry), tsecr);
  }

  /** What RSTs the upstream sent for this connection prove. The keeper may learn of them a moment later. */
  verdict({ entry }: Lease): Verdict {
    return this.#table.verdict(entry);
  }

  /**
   * The socket is closed and the entry no longer ours. `bytesSent` since the handshake gives a repeated RST
   * its sequence number when the ending is "reset".
   */
  finish({ entry }: Lease, ending: Ending, bytesSent = 0): void {
    this.#table.set(entry, ENTRY.ending, ENDINGS.indexOf(ending));
    this.#table.set(entry, ENTRY.endSeq, this.#table.get(entry, ENTRY.iss) + 1 + bytesSent);
    this.#table.move(entry, "leased", "finished");
    this.#signal.notify(entry);
    this.#signal.touch(false);
  }

  /** A first flight stayed unacknowledged for 3 s, or was acknowledged after all. */
  reportFlight(acknowledged: boolean): void {
    if (!acknowledged) this.block.add("silentFlights");
    else if (this.block.get("silentFlights") > 0 && this.block.get("paused") === 0) {
      this.block.set("silentFlights", 0);
    }
    if (!acknowledged) this.#signal.touch(true);
  }

  reportReplay(): void {
    this.block.add("replays");
  }

  #takeReady(needsProof: boolean): Lease | undefined {
    if (this.block.get("ready") === 0) return undefined;
    return this.#takeFirst(true) ?? (needsProof ? undefined : this.#takeFirst(false));
  }

  #takeFirst(answered: boolean): Lease | undefined {
    const windowMs = this.block.get("leaseWindowMs");
    const { offers } = this.block;
    let slot = this.block.get("oldest") - 1;
    for (let left = offers; left > 0; left--) {
      slot = slot + 1 < offers ? slot + 1 : 0;
      const entry = this.block.offered(slot);
      if (entry < 0) continue;
      const synackAt = this.#table.get(entry, ENTRY.synackAt);
      const isAnswered = ageMs32(synackAt, this.#table.get(entry, ENTRY.synAt)) >= 0;
      const ageMs = ageMs32(nowMs32(), synackAt);
      if (isAnswered !== answered || ageMs > windowMs) continue;
      // What seeds ts_recent is routed by its address, and would leave for a client's.
      if (this.share.source !== undefined && this.#isCookie(entry)) continue;
      if (!this.block.claim(slot, entry)) continue;
      this.block.set("oldest", slot + 1 < offers ? slot + 1 : 0);
      this.#table.move(entry, "ready", "leased");
      this.#signal.notify(entry);
      try {
        return { fd: this.#materialize(entry), entry };
      } catch (error) {
        if (!(error instanceof SyscallError)) throw error;
        this.finish({ fd: -1, entry }, "unused");
      }
    }
    return undefined;
  }

  #materialize(entry: number): number {
    const table = this.#table;
    const agreed = table.get(entry, ENTRY.options);
    const stamped = (agreed & OPTION_TIMESTAMPS) !== 0;
    const tsval = this.#tsval(entry);
    const image = fromHandshake(
      {
        local: {
          address: table.source(entry, this.#destination.address.length),
          port: table.get(entry, ENTRY.port),
        },
        remote: this.#destination,
        iss: table.getU32(entry, ENTRY.iss),
        irs: table.getU32(entry, ENTRY.irs),
        advmss: table.get(entry, ENTRY.advmss),
        synWindow: table.get(entry, ENTRY.synWindow),
        mss: table.get(entry, ENTRY.mss),
        snd_wnd: table.get(entry, ENTRY.snd_wnd),
        snd_wscale: (agreed & OPTION_WSCALE) !== 0 ? table.get(entry, ENTRY.snd_wscale) : undefined,
        rcv_wscale: table.get(entry, ENTRY.rcv_wscale),
        sackPermitted: (agreed & OPTION_SACK) !== 0,
        tsval: stamped ? tsval : undefined,
      },
      this.#options,
    );
    const fd = restoreBySyscalls(restorePlan(image), this.#socketFlags);
    if (stamped && this.#isCookie(entry)) this.#wire.seed(entry, this.#destination, tsval);
    return fd;
  }

  /** Whether the upstream needs its TSval back: it keeps none of the entry itself. */
  #isCookie(entry: number): boolean {
    return this.block.get("cookies") === 1 || (this.#table.get(entry, ENTRY.options) & OPTION_COOKIE) !== 0;
  }

  /** Our clock now, never before the SYN's TSval. */
  #tsval(entry: number): number {
    const now = tsvalAt(nowMs(), this.share.tsOffset);
    const syn = this.#table.getU32(entry, ENTRY.synTsval);
    return ((now - syn) | 0) > 0 ? now : syn;
  }
}
