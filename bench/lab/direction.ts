import type { Tun } from "../../native/net/tun.ts";
import type { ActiveFilter } from "./filter.ts";
import { Impairment } from "./impairment.ts";
import { PacketQueue } from "./packet-queue.ts";
import { PacketStore } from "./packet-store.ts";
import type { PcapWriter } from "./pcap.ts";

/** What happened to the packets of one direction since the lab began. */
export interface DirectionCounters {
  /** Entered the line. */
  readonly packets: number;
  readonly bytes: number;
  /** Left it at the other end, copies included. */
  readonly delivered: number;
  readonly duplicated: number;
  readonly queued: number;
  /** Dropped: by `loss`, by the filter, because the line was cut, because its queue was full. */
  readonly lost: number;
  readonly filtered: number;
  readonly cut: number;
  readonly overflowed: number;
  /** Written, but refused by the receiving interface: altered into something that is no IP packet. */
  readonly refused: number;
  /** How far behind their time packets left, in ms: the line's own inaccuracy. Up to 10 ms are told apart. */
  readonly lateMs: { readonly p50: number; readonly p99: number; readonly max: number };
}

const LATE_BUCKET_MS = 0.01;
const LATE_BUCKETS = 1001;

/**
 * One way of a link: reads packets from the sender's TUN, keeps each for its time, writes it to the
 * receiver's. Owner of its queue and store until close(); borrows the rest.
 */
export class Direction {
  readonly from: string;
  readonly to: string;
  readonly impairment: Impairment;
  filter: ActiveFilter | undefined;
  /** Captures at the sender's and at the receiver's end. */
  senderCapture: PcapWriter | undefined;
  receiverCapture: PcapWriter | undefined;

  readonly #source: Tun;
  readonly #sink: Tun;
  readonly #queue: PacketQueue;
  readonly #store: PacketStore;
  readonly #counts = {
    packets: 0,
    bytes: 0,
    delivered: 0,
    duplicated: 0,
    lost: 0,
    filtered: 0,
    cut: 0,
    overflowed: 0,
    refused: 0,
  };
  readonly #late = new Uint32Array(LATE_BUCKETS);
  #lateMaxMs = 0;

  constructor(options: {
    from: string;
    to: string;
    source: Tun;
    sink: Tun;
    stream: number;
    mtu: number;
    queuePackets: number;
  }) {
    this.from = options.from;
    this.to = options.to;
    this.#source = options.source;
    this.#sink = options.sink;
    this.impairment = new Impairment(options.stream);
    // One slot more than may wait: the packet being read.
    this.#queue = new PacketQueue(options.queuePackets + 1);
    this.#store = new PacketStore(options.queuePackets + 1, Math.ceil(options.mtu / 64) * 64);
  }

  /** When the next packet has to leave; Infinity when none waits. */
  get nextDueMs(): number {
    return this.#queue.nextDueMs;
  }

  /** Takes up to `limit` packets in; returns how many there were. */
  receive(limit: number): number {
    for (let count = 0; count < limit; count++) {
      const slot = this.#store.take();
      const length = this.#source.read(this.#store.addressOf(slot), this.#store.slotSize);
      if (length < 0) {
        this.#store.release(slot);
        return count;
      }
      this.#store.setLength(slot, length);
      this.#enter(slot, length, performance.now());
    }
    return limit;
  }

  /** Lets up to `limit` packets out whose time has come; returns how many there were. */
  deliver(limit: number): number {
    for (let count = 0; count < limit; count++) {
      const dueMs = this.#queue.nextDueMs;
      const nowMs = performance.now();
      if (dueMs > nowMs) return count;
      const slot = this.#queue.pop();
      this.receiverCapture?.append(nowMs, this.#store.packet(slot));
      if (this.#sink.write(this.#store.addressOf(slot), this.#store.lengthOf(slot))) this.#counts.delivered++;
      else this.#counts.refused++;
      this.#store.release(slot);
      this.#noteLate(nowMs - dueMs);
    }
    return limit;
  }

  counters(): DirectionCounters {
    const lateMs = { p50: this.#lateQuantile(0.5), p99: this.#lateQuantile(0.99), max: this.#lateMaxMs };
    return { ...this.#counts, queued: this.#queue.count, lateMs };
  }

  close(): void {
    this.#store.close();
  }

  #enter(slot: number, length: number, nowMs: number): void {
    this.#counts.packets++;
    this.#counts.bytes += length;
    this.senderCapture?.append(nowMs, this.#store.packet(slot));
    const extraMs = this.filter === undefined ? 0 : this.#ask(this.filter, slot, nowMs);
    if (extraMs < 0) {
      this.#counts.filtered++;
      this.#store.release(slot);
      return;
    }
    const verdict = this.impairment.schedule(nowMs, this.#store.lengthOf(slot));
    if (verdict.fate !== "deliver") {
      if (verdict.fate === "lose") this.#counts.lost++;
      else this.#counts.cut++;
      this.#store.release(slot);
      return;
    }
    this.#enqueue(slot, verdict.dueMs + extraMs, !verdict.late && extraMs === 0);
    if (verdict.copies > 1 && this.#store.freeCount > 0) {
      const copy = this.#store.take();
      this.#store.replace(copy, this.#store.packet(slot));
      this.#counts.duplicated++;
      this.#enqueue(copy, verdict.dueMs + extraMs, !verdict.late && extraMs === 0);
    }
  }

  /** The last free slot is the one to read into: a packet that took it has no room to wait. */
  #enqueue(slot: number, dueMs: number, inOrder: boolean): void {
    if (this.#store.freeCount > 0) {
      this.#queue.push(slot, dueMs, inOrder);
      return;
    }
    this.#counts.overflowed++;
    this.#store.release(slot);
  }

  /** How much longer the filter holds the packet back, in ms; -1 when it drops it. */
  #ask(filter: ActiveFilter, slot: number, nowMs: number): number {
    const decision = filter.decide(this.from, this.to, this.#store.packet(slot), nowMs);
    if (decision === "pass") return 0;
    if (decision === "drop") return -1;
    if (!(decision instanceof Uint8Array)) return decision.delayMs;
    this.#store.replace(slot, decision);
    return 0;
  }

  #noteLate(lateMs: number): void {
    const bucket = Math.min(Math.floor(lateMs / LATE_BUCKET_MS), LATE_BUCKETS - 1);
    this.#late[bucket]!++;
    if (lateMs > this.#lateMaxMs) this.#lateMaxMs = lateMs;
  }

  /** The upper edge of the bucket that holds the quantile. */
  #lateQuantile(share: number): number {
    const wanted = (this.#counts.delivered + this.#counts.refused) * share;
    let seen = 0;
    for (let bucket = 0; bucket < LATE_BUCKETS; bucket++) {
      seen += this.#late[bucket]!;
      if (seen > 0 && seen >= wanted) return Math.min((bucket + 1) * LATE_BUCKET_MS, this.#lateMaxMs);
    }
    return 0;
  }
}
