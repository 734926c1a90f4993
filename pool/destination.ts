/**
 * The keeper's side of one pool: opens half-opens, keeps them, offers them, gives them up.
 *
 *   open ──(RST, or two SYNs unanswered)──▶ backoff ──(time)──▶ open, one entry first
 *   open ──(first flights into silence)───▶ blackholed ──(time)──▶ open
 *
 * Read docs/how-it-works.md and entry-table.ts first, then net/ipv4/tcp_minisocks.c tcp_check_req() for
 * what an upstream does with a repeated SYN.
 */
import type { Endpoint } from "../native/address.ts";
import { formatEndpoint, parseAddress } from "../native/address.ts";
import { SyscallError } from "../native/errno.ts";
import { probeRoute, type SynTemplate } from "../native/net/tcp-socket.ts";
import { ACK, type TcpSegment } from "../native/wire/tcp.ts";
import { CookieWatch } from "./cookie-watch.ts";
import { Demand } from "./demand.ts";
import { ENDINGS, ENTRY, OPTION_SACK, OPTION_TIMESTAMPS, OPTION_WSCALE } from "./entry-table.ts";
import type { KeeperServices } from "./keeper.ts";
import * as limits from "./limits.ts";
import { PoolBlock, type PoolShare } from "./pool-block.ts";
import type { DestinationPorts, Port } from "./reservations.ts";
import { RttEstimator } from "./rtt.ts";
import { SequenceSource, tsvalAt } from "./sequence.ts";
import { TokenBucket } from "./token-bucket.ts";

/** What the configuration says about a pool. */
export interface PoolSpec {
  readonly id: number;
  readonly upstream: string;
  readonly server: Endpoint;
  readonly min: number;
  readonly max: number;
  /** SYNs a second, repetitions included. */
  readonly maxSynRate: number;
  readonly maxAgeMs: number;
}

/** What only the keeper knows of an entry. Times are ms of clock.nowMs(). */
export interface LiveEntry {
  readonly index: number;
  readonly destination: Destination;
  readonly port: Port;
  readonly openedAtMs: number;
  slot: number;
  sentAtMs: number;
  attempts: number;
  resetsSent: number;
}

type Health =
  | { readonly kind: "open" }
  | { readonly kind: "backoff"; readonly untilMs: number }
  | { readonly kind: "blackholed"; readonly untilMs: number };

const NO_SLOT = -1;
const OUTCOME_WINDOW = 5_000;

export class Destination {
  readonly spec: PoolSpec;
  readonly block: PoolBlock;
  readonly port: number;
  readonly address: Uint8Array;
  readonly #services: KeeperServices;
  readonly #sequence: SequenceSource;
  readonly #ports: DestinationPorts;
  readonly #rtt = new RttEstimator();
  readonly #demand = new Demand();
  readonly #bucket: TokenBucket;
  readonly #cookies: CookieWatch;
  readonly #live = new Map<number, LiveEntry>();
  readonly #ready = new Set<LiveEntry>();
  readonly #leased = new Set<LiveEntry>();
  readonly #freeSlots: number[] = [];
  #opening = 0;
  #retired = false;
  #health: Health = { kind: "open" };
  #failures = 0;
  #pauses = 0;
  #ceiling: number;
  #ceilingUntilMs = 0;
  #answered = 0;
  #unanswered = 0;
  #outcomesSinceMs = 0;
  #takesSeen = 0;
  #template: SynTemplate | undefined;
  #templateAtMs = 0;
  #leasedScanAtMs = 0;

  constructor(spec: PoolSpec, services: KeeperServices, ports: DestinationPorts, secret: Uint8Array) {
    const address = parseAddress(spec.server.address);
    if (!address) throw new Error(`not an address: ${spec.server.address}`);
    this.spec = spec;
    this.address = address;
    this.port = spec.server.port;
    this.#services = services;
    this.#ports = ports;
    this.#sequence = new SequenceSource(secret, spec.server);
    this.block = new PoolBlock(spec.max);
    this.#bucket = new TokenBucket(spec.maxSynRate, services.nowMs());
    this.#ceiling = spec.max;
    this.#cookies = new CookieWatch(this.#rtt);
    for (let slot = spec.max - 1; slot >= 0; slot--) this.#freeSlots.push(slot);
    this.#publishWindow();
  }

  get share(): PoolShare {
    const { id, upstream, server, max } = this.spec;
    return { id, upstream, server, max, tsOffset: this.#sequence.tsOffset, buffer: this.block.buffer };
  }

  /** The entry whose local port this is, in any state but resting. */
  entryAt(port: number): LiveEntry | undefined {
    return this.#live.get(port);
  }

  /** Brings the pool to its target. Returns when it wants to be called again, in ms. */
  tend(nowMs: number): number {
    this.#reconcile(nowMs);
    this.#watchHealth(nowMs);
    const target = this.#target(nowMs);
    this.block.set("target", target);
    if (this.#health.kind === "open") {
      this.#startCanary(nowMs);
      this.#shrink(target, nowMs);
      const wait = this.#fill(target, nowMs);
      this.#publishCounts();
      return Math.min(wait, this.#leased.size > 0 ? 100 : limits.KEEPER_SLEEP_MAX);
    }
    this.#publishCounts();
    return Math.max(1, this.#health.untilMs - nowMs);
  }

  /** Gives up every half-open. Leased entries stay their sessions'. */
  release(nowMs: number): void {
    for (const entry of [...this.#live.values()]) {
      if (!this.#leased.has(entry)) this.#giveUp(entry, nowMs, "released");
    }
    this.#publishCounts();
  }

  /** Gives up every half-open for good: nothing is opened any more. */
  retire(nowMs: number): void {
    this.#retired = true;
    this.block.set("paused", 1);
    this.release(nowMs);
  }

  get retired(): boolean {
    return this.#retired;
  }

  /** True while a leased entry is in use: the destination cannot be forgotten. */
  get busy(): boolean {
    return this.#leased.size > 0;
  }

  // --- what the network says -----------------------------------------------------------------------------

  onSynAck(entry: LiveEntry, segment: TcpSegment, arrivedMs: number): void {
    const { table } = this.#services;
    if (segment.ack !== (table.getU32(entry.index, ENTRY.iss) + 1) >>> 0) return;
    const sinceSynMs = arrivedMs - entry.sentAtMs;
    const state = table.state(entry.index);
    if (state === "opening") this.#onFirstAnswer(entry, segment, arrivedMs, sinceSynMs);
    else if (state === "ready") this.#onAnswer(entry, segment, arrivedMs, sinceSynMs);
  }

  onReset(entry: LiveEntry, segment: TcpSegment, arrivedMs: number): void {
    const { table } = this.#services;
    const state = table.state(entry.index);
    const bare = (segment.flags & ACK) === 0;
    const atIrs = segment.seq === (table.getU32(entry.index, ENTRY.irs) + 1) >>> 0;
    if (state === "leased" || (state === "ready" && this.#wasTaken(entry))) {
      const verdict = bare && atIrs ? "unborn" : "other";
      const before = table.verdict(entry.index);
      table.setVerdict(entry.index, before === "none" || before === verdict ? verdict : "other");
    } else if (!bare && segment.ack === (table.getU32(entry.index, ENTRY.iss) + 1) >>> 0) {
      this.block.add("refused");
      this.#drop(entry, arrivedMs);
      this.#backOff(arrivedMs, "upstream refuses connections");
    } else if (state === "ready" && bare && atIrs) {
      this.block.add("vanished");
      this.#drop(entry, arrivedMs);
    }
  }

  #onFirstAnswer(entry: LiveEntry, segment: TcpSegment, arrivedMs: number, sinceSynMs: number): void {
    if (this.#rtt.known && entry.attempts === 0 && sinceSynMs > limits.SYNACK_TIMEOUT) {
      this.#giveUp(entry, arrivedMs, "tainted"); // our SYN's answer was lost, this is the upstream's timer
      return;
    }
    if (entry.attempts === 0) this.#sampleRtt(sinceSynMs);
    this.#countOutcome(arrivedMs, true);
    this.#failures = 0;
    this.#services.table.move(entry.index, "opening", "ready");
    this.#opening -= 1;
    this.#ready.add(entry);
    this.block.add("opened");
    this.#record(entry, segment, arrivedMs);
    this.#offer(entry);
    this.#scheduleRefresh(entry);
    this.#publishCounts();
  }

  #onAnswer(entry: LiveEntry, segment: TcpSegment, arrivedMs: number, sinceSynMs: number): void {
    if (this.#wasTaken(entry)) return;
    const { table } = this.#services;
    const sameIrs = segment.seq === table.getU32(entry.index, ENTRY.irs);
    const solicited = sinceSynMs >= this.#rtt.answerAfterMs() && sinceSynMs <= this.#rtt.answerWithinMs();
    if (this.#cookies.canary === entry) {
      const finding = this.#cookies.onAnswer(sameIrs, solicited && entry.attempts > 0);
      if (finding !== undefined) this.#endCanary(entry, finding, arrivedMs);
    } else if (!sameIrs) {
      this.block.add("vanished"); // it had forgotten us and opened another: ours now
      if (!this.#withdraw(entry)) return;
      this.#record(entry, segment, arrivedMs);
      this.#offer(entry);
    } else if (solicited || entry.attempts > 1) {
      if (entry.attempts === 1) this.#sampleRtt(sinceSynMs);
      this.#record(entry, segment, arrivedMs);
      this.block.add("refreshed");
      this.#scheduleRefresh(entry);
    } else {
      this.#giveUp(entry, arrivedMs, "tainted"); // its timer fired: the connection would start at cwnd 1
    }
  }

  // --- what time says -------------------------------------------------------------------------------------

  onTimer(entry: LiveEntry, nowMs: number): void {
    switch (this.#services.table.state(entry.index)) {
      case "opening":
        this.#onUnanswered(entry, nowMs);
        break;
      case "ready":
        this.#onRefreshDue(entry, nowMs);
        break;
      case "resting":
        this.#onRested(entry, nowMs);
        break;
      case "free":
      case "leased":
      case "finished":
        break;
    }
  }

  #onUnanswered(entry: LiveEntry, nowMs: number): void {
    if (entry.attempts === 0) {
      entry.attempts = 1;
      this.#sendSyn(entry, nowMs);
      this.#services.schedule(nowMs + this.#openTimeoutMs(), entry);
      return;
    }
    const held = this.#opening + this.#ready.size;
    this.#giveUp(entry, nowMs, "vanished");
    this.#countOutcome(nowMs, false);
    if (this.#answered === 0) {
      this.#backOff(nowMs, "upstream does not answer");
    } else if (this.#unanswered >= 2 && this.#unanswered > this.#answered) {
      // Some are answered, new ones are not: its SYN queue is full, and we are in it.
      this.#lowerCeiling(Math.max(1, held >> 1), nowMs);
    }
  }

  #onRefreshDue(entry: LiveEntry, nowMs: number): void {
    if (this.#wasTaken(entry)) return;
    if (this.#cookies.canary === entry) {
      if (entry.attempts > 0) {
        this.#endCanary(entry, "unknown", nowMs);
        return;
      }
    } else if (nowMs - entry.openedAtMs >= this.spec.maxAgeMs) {
      this.#giveUp(entry, nowMs, "released");
      return;
    } else if (entry.attempts >= limits.REFRESH_ATTEMPTS) {
      this.#giveUp(entry, nowMs, "vanished");
      if (this.#ready.size === 0) this.#backOff(nowMs, "upstream no longer answers");
      return;
    }
    entry.attempts += 1;
    this.#sendSyn(entry, nowMs);
    // The repetition of a lost SYN is answered at once, that of a lost answer not within 500 ms.
    const answerWithin = this.#rtt.answerWithinMs();
    const wait = entry.attempts === 2 ? limits.SYN_ANSWER_INTERVAL - answerWithin : answerWithin;
    this.#services.schedule(nowMs + Math.max(wait, limits.REFRESH_INTERVAL_MIN), entry);
  }

  #onRested(entry: LiveEntry, nowMs: number): void {
    const { table, wire } = this.#services;
    const ending = ENDINGS[table.get(entry.index, ENTRY.ending)]!;
    const repeats = limits.RESET_REPEATS;
    if (ending === "reset" && entry.resetsSent < repeats.length) {
      wire.reset(entry.index, this, table.getU32(entry.index, ENTRY.endSeq));
      entry.resetsSent += 1;
      const next = repeats[entry.resetsSent] ?? repeats[repeats.length - 1]! + limits.REST_RELEASED;
      this.#services.schedule(nowMs + next - (repeats[entry.resetsSent - 1] ?? 0), entry);
      return;
    }
    table.move(entry.index, "resting", "free");
    this.#ports.giveBack(entry.port);
    this.#services.freeEntry(entry);
  }

  // --- opening and giving up --------------------------------------------------------------------------------

  /** Opens entries up to the target; returns the ms until it could open more. */
  #fill(target: number, nowMs: number): number {
    while (this.#opening + this.#offeredCount() < target && this.#held() < this.spec.max) {
      if (!this.#bucket.tryTake(nowMs)) return Math.max(1, this.#bucket.waitMs(nowMs));
      if (!this.#open(nowMs)) return limits.KEEPER_SLEEP_MAX;
    }
    return Number.POSITIVE_INFINITY;
  }

  #open(nowMs: number): boolean {
    const { table } = this.#services;
    try {
      this.#template = this.#route(nowMs);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#backOff(nowMs, `no route to upstream (${error.code})`);
      return false;
    }
    const port = this.#takePort();
    if (port === undefined) return false;
    const entry = this.#services.newEntry(this, port, nowMs);
    if (entry === undefined) {
      this.#ports.giveBack(port);
      return false;
    }
    const { source, advmss, window, hopLimit } = this.#template;
    const { index } = entry;
    table.set(index, ENTRY.pool, this.spec.id);
    table.set(index, ENTRY.port, port.number);
    table.set(index, ENTRY.iss, this.#sequence.iss(port.number, nowMs));
    table.set(index, ENTRY.synTsval, tsvalAt(nowMs, this.#sequence.tsOffset));
    table.set(index, ENTRY.irs, 0);
    table.set(index, ENTRY.ending, 0);
    table.set(index, ENTRY.advmss, advmss);
    table.set(index, ENTRY.synWindow, window);
    table.set(index, ENTRY.hopLimit, hopLimit);
    table.source(index, source.length).set(source);
    table.setVerdict(index, "none");
    table.move(index, "free", "opening");
    this.#live.set(port.number, entry);
    this.#opening += 1;
    this.#sendSyn(entry, nowMs, false);
    this.#services.schedule(nowMs + this.#openTimeoutMs(), entry);
    return true;
  }

  #takePort(): Port | undefined {
    try {
      return this.#ports.take();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#services.warnNoPort(error);
      return undefined;
    }
  }

  #sendSyn(entry: LiveEntry, nowMs: number, counted = true): void {
    if (counted) this.#bucket.take(nowMs);
    entry.sentAtMs = nowMs;
    this.#services.wire.syn(entry.index, this, this.#services.synOptions);
  }

  /** Ends an opening or ready entry with a RST, unless a taker was faster. */
  #giveUp(entry: LiveEntry, nowMs: number, why: "released" | "tainted" | "vanished"): void {
    const { table, wire } = this.#services;
    if (!this.#drop(entry, nowMs)) return;
    this.block.add(why);
    wire.reset(entry.index, this, (table.getU32(entry.index, ENTRY.iss) + 1) >>> 0);
  }

  /** The same without a RST, when the upstream has none of it any more. False: a taker was faster. */
  #drop(entry: LiveEntry, nowMs: number): boolean {
    const { table } = this.#services;
    const state = table.state(entry.index);
    if (state === "opening") {
      this.#opening -= 1;
      table.move(entry.index, "opening", "resting");
    } else if (state === "ready") {
      if (!this.#withdraw(entry)) return false;
      this.#ready.delete(entry);
      this.#cookies.forget(entry);
      table.move(entry.index, "ready", "resting");
    } else {
      return false;
    }
    this.#live.delete(entry.port.number);
    this.#services.schedule(nowMs + limits.REST_RELEASED, entry);
    return true;
  }

  // --- offers ------------------------------------------------------------------------------------------------

  #offer(entry: LiveEntry): void {
    const slot = this.#freeSlots.pop();
    if (slot === undefined) throw new Error("more half-opens than offer slots");
    entry.slot = slot;
    this.block.offer(slot, entry.index);
  }

  /** Takes an offer back. True: ours, or it was not offered. False: it is a taker's now. */
  #withdraw(entry: LiveEntry): boolean {
    if (entry.slot === NO_SLOT) return true;
    if (!this.block.claim(entry.slot, entry.index)) return false;
    this.#freeSlots.push(entry.slot);
    entry.slot = NO_SLOT;
    return true;
  }

  #wasTaken(entry: LiveEntry): boolean {
    return entry.slot !== NO_SLOT && this.block.offered(entry.slot) !== entry.index;
  }

  /** Catches up with what takers did: leases begun and ended, connections wanted, flights into silence. */
  #reconcile(nowMs: number): void {
    if (this.block.exchange("touched", 0) === 1) {
      for (const entry of this.#ready) if (this.#wasTaken(entry)) this.#onTaken(entry);
    }
    if (nowMs >= this.#leasedScanAtMs) {
      this.#leasedScanAtMs = nowMs + 100;
      for (const entry of this.#leased) {
        if (this.#services.table.state(entry.index) === "finished") this.#onFinished(entry, nowMs);
      }
    }
    const takes = (this.block.get("hits") + this.block.get("misses")) >>> 0;
    const arrivals = (takes - this.#takesSeen) >>> 0;
    this.#takesSeen = takes;
    this.#demand.note(arrivals, nowMs, Math.max(this.#rtt.srttMs, 20) + 10);
  }

  #onTaken(entry: LiveEntry): void {
    this.#freeSlots.push(entry.slot);
    entry.slot = NO_SLOT;
    this.#ready.delete(entry);
    this.#leased.add(entry);
    this.#services.reservations.lease(entry.port);
  }

  #onFinished(entry: LiveEntry, nowMs: number): void {
    const { table, wire, reservations } = this.#services;
    const ending = ENDINGS[table.get(entry.index, ENTRY.ending)]!;
    this.#leased.delete(entry);
    this.#live.delete(entry.port.number);
    reservations.rest(entry.port);
    table.move(entry.index, "finished", "resting");
    entry.resetsSent = 0;
    if (ending === "unused") {
      wire.reset(entry.index, this, (table.getU32(entry.index, ENTRY.iss) + 1) >>> 0);
    }
    const rest = {
      passive: limits.REST_RELEASED,
      unused: limits.REST_RELEASED,
      active: limits.REST_TIME_WAIT,
    };
    this.#services.schedule(nowMs + (ending === "reset" ? limits.RESET_REPEATS[0] : rest[ending]), entry);
  }

  // --- size and health --------------------------------------------------------------------------------------

  #held(): number {
    return this.#opening + this.#ready.size;
  }

  #offeredCount(): number {
    return this.#ready.size - (this.#cookies.canary === undefined ? 0 : 1);
  }

  #target(nowMs: number): number {
    const { min, max } = this.spec;
    if (this.#retired || this.#health.kind !== "open") return 0;
    if (this.#failures > 0) return Math.min(1, max);
    const wanted = Math.min(max, min + this.#demand.wanted(nowMs), this.#ceiling);
    return this.block.get("cookies") === 1 ? Math.max(Math.min(min, this.#ceiling), wanted >> 1) : wanted;
  }

  #shrink(target: number, nowMs: number): void {
    const slack = this.#ceiling < this.spec.max ? 0 : 1 + (target >> 2);
    let surplus = this.#opening + this.#offeredCount() - target;
    if (surplus <= slack) return;
    for (const entry of this.#ready) {
      if (surplus <= 0) return;
      if (entry === this.#cookies.canary) continue;
      this.#giveUp(entry, nowMs, "released");
      surplus -= 1;
    }
  }

  #lowerCeiling(ceiling: number, nowMs: number): void {
    this.#ceiling = Math.min(this.#ceiling, ceiling);
    this.#ceilingUntilMs = nowMs + limits.CEILING_HOLD;
    this.#answered = 0;
    this.#unanswered = 0;
    const fields = { ...this.#named(), ceiling: this.#ceiling };
    this.#services.log.warn(fields, "upstream drops SYNs, holding fewer half-opens");
    this.#shrink(this.#target(nowMs), nowMs);
  }

  #watchHealth(nowMs: number): void {
    const health = this.#health;
    if (health.kind === "open") {
      if (this.block.get("silentFlights") >= limits.BLACKHOLED_FLIGHTS) this.#pause(nowMs);
      if (this.#ceiling < this.spec.max && nowMs >= this.#ceilingUntilMs) {
        this.#ceiling = Math.min(this.spec.max, this.#ceiling + Math.max(1, this.#ceiling >> 2));
        this.#ceilingUntilMs = nowMs + limits.CEILING_HOLD;
      }
      if (this.#offeredCount() >= Math.min(this.spec.min, this.#ceiling)) this.block.set("settled", 1);
    } else if (nowMs >= health.untilMs) {
      this.#health = { kind: "open" };
      if (health.kind === "blackholed") {
        this.block.set("silentFlights", 0);
        this.block.set("paused", 0);
        this.#services.log.info(this.#named(), "accelerating again after a pause");
      }
    }
  }

  #pause(nowMs: number): void {
    const pauseMs = Math.min(limits.BLACKHOLE_PAUSE_MIN * 2 ** this.#pauses, limits.BLACKHOLE_PAUSE_MAX);
    this.#pauses += 1;
    this.#health = { kind: "blackholed", untilMs: nowMs + pauseMs };
    this.block.set("paused", 1);
    this.block.set("settled", 1);
    this.block.add("blackholes");
    this.release(nowMs);
    const fields = { ...this.#named(), pauseMs };
    this.#services.log.warn(fields, "first data on half-opens vanishes, connecting in the ordinary way");
  }

  #backOff(nowMs: number, reason: string): void {
    this.block.set("settled", 1);
    if (this.#health.kind !== "open") return;
    const waitMs = Math.min(limits.BACKOFF_MIN * 2 ** this.#failures, limits.BACKOFF_MAX);
    this.#health = { kind: "backoff", untilMs: nowMs + waitMs };
    if (this.#failures === 0) this.#services.log.warn({ ...this.#named(), reason }, "half-opens paused");
    this.#failures += 1;
    this.release(nowMs);
  }

  #countOutcome(nowMs: number, answered: boolean): void {
    if (nowMs - this.#outcomesSinceMs > OUTCOME_WINDOW) {
      this.#answered = 0;
      this.#unanswered = 0;
      this.#outcomesSinceMs = nowMs;
    }
    if (answered) this.#answered += 1;
    else this.#unanswered += 1;
  }

  // --- cookies ------------------------------------------------------------------------------------------------

  #startCanary(nowMs: number): void {
    if (this.spec.max < 2 || !this.#cookies.due(nowMs) || this.#ready.size < 2) return;
    for (const entry of this.#ready) {
      if (this.#wasTaken(entry) || entry.attempts > 0 || !this.#withdraw(entry)) continue;
      const synackAtMs = nowMs - this.#synackAgeMs(entry, nowMs);
      entry.sentAtMs = synackAtMs - this.#rtt.srttMs;
      this.#services.schedule(this.#cookies.start(entry, nowMs, synackAtMs), entry);
      return;
    }
  }

  #endCanary(entry: LiveEntry, finding: "stateful" | "cookies" | "unknown", nowMs: number): void {
    const found = this.#cookies.end(finding, nowMs);
    this.#giveUp(entry, nowMs, "released");
    if (found === undefined || found === (this.block.get("cookies") === 1)) return;
    this.block.set("cookies", found ? 1 : 0);
    if (found) this.block.add("cookieSightings");
    this.#services.log.info(
      this.#named(),
      found ? "upstream answers with SYN cookies" : "upstream no longer answers with SYN cookies",
    );
  }

  // --- bookkeeping --------------------------------------------------------------------------------------------

  #record(entry: LiveEntry, segment: TcpSegment, arrivedMs: number): void {
    const { table, synOptions } = this.#services;
    const { index } = entry;
    const { options } = segment;
    table.set(index, ENTRY.irs, segment.seq);
    table.set(index, ENTRY.synackTsval, options.tsval ?? 0);
    table.set(index, ENTRY.mss, options.mss ?? 0);
    table.set(index, ENTRY.snd_wnd, segment.window);
    table.set(index, ENTRY.snd_wscale, options.wscale ?? 0);
    table.set(index, ENTRY.rcv_wscale, options.wscale === undefined ? 0 : (synOptions.wscale ?? 0));
    table.set(
      index,
      ENTRY.options,
      (options.tsval !== undefined && synOptions.timestamps ? OPTION_TIMESTAMPS : 0) |
        (options.sackPermitted && synOptions.sack ? OPTION_SACK : 0) |
        (options.wscale !== undefined && synOptions.wscale !== undefined ? OPTION_WSCALE : 0),
    );
    table.set(index, ENTRY.synackAt, arrivedMs | 0);
  }

  #scheduleRefresh(entry: LiveEntry): void {
    entry.attempts = 0;
    const latest = limits.SYNACK_TIMEOUT - limits.LEASE_MARGIN - this.#rtt.srttMs - 60;
    const interval = Math.max(limits.REFRESH_INTERVAL_MIN, Math.min(limits.REFRESH_INTERVAL, latest));
    this.#services.schedule(entry.sentAtMs + interval, entry);
  }

  #sampleRtt(rttMs: number): void {
    this.#rtt.sample(rttMs);
    this.#publishWindow();
  }

  /** Beyond RTT_MAX no refresh comes in time: the window closes and every taker connects directly. */
  #publishWindow(): void {
    const { srttMs } = this.#rtt;
    const window = limits.SYNACK_TIMEOUT - srttMs - limits.LEASE_MARGIN;
    this.block.set("leaseWindowMs", srttMs <= limits.RTT_MAX ? Math.floor(window) : 0);
    this.block.set("rttUs", Math.round(srttMs * 1e3));
  }

  #publishCounts(): void {
    this.block.set("halfOpen", this.#held());
    this.block.set("ready", this.#offeredCount());
  }

  #openTimeoutMs(): number {
    if (!this.#rtt.known) return limits.OPEN_TIMEOUT_INITIAL;
    return Math.max(limits.OPEN_TIMEOUT_MIN, 2 * this.#rtt.answerWithinMs());
  }

  #synackAgeMs(entry: LiveEntry, nowMs: number): number {
    return ((nowMs | 0) - this.#services.table.get(entry.index, ENTRY.synackAt)) | 0;
  }

  #route(nowMs: number): SynTemplate {
    if (this.#template && nowMs - this.#templateAtMs < limits.ROUTE_MAX_AGE) return this.#template;
    this.#templateAtMs = nowMs;
    return probeRoute(this.address, this.port);
  }

  #named(): { upstream: string; server: string } {
    return { upstream: this.spec.upstream, server: formatEndpoint(this.spec.server) };
  }
}
