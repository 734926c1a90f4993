/**
 * The keeper's side of one pool: opens half-opens, keeps them, offers them, gives them up. How many it may
 * hold is health.ts, who took what is offers.ts, the states of an entry are in entry-table.ts.
 *
 * Read docs/how-it-works.md first, then net/ipv4/tcp_minisocks.c tcp_check_req() for
 * what an upstream does with a repeated SYN.
 */
import { parseAddress } from "../native/address.ts";
import { SyscallError } from "../native/errno.ts";
import type { SynTemplate } from "../native/net/tcp-socket.ts";
import { ACK, type TcpSegment } from "../native/wire/tcp.ts";
import { Arrivals } from "./arrivals.ts";
import type { SynAllowance } from "./budget.ts";
import { CookieGuard } from "./cookie-guard.ts";
import type { Finding } from "./cookie-watch.ts";
import { Demand } from "./demand.ts";
import { recordSyn, recordSynAck } from "./entry-record.ts";
import { ENTRY } from "./entry-table.ts";
import type { PoolMemory } from "./handover.ts";
import { Health } from "./health.ts";
import type { KeeperServices } from "./keeper.ts";
import { Leases } from "./leases.ts";
import * as limits from "./limits.ts";
import type { LiveEntry } from "./live-entry.ts";
import { Offers } from "./offers.ts";
import { PoolBlock, type PoolShare } from "./pool-block.ts";
import { PoolNews } from "./pool-news.ts";
import type { PoolSpec } from "./pool-spec.ts";
import type { DestinationPorts, Port } from "./reservations.ts";
import { Route } from "./route.ts";
import { RttEstimator } from "./rtt.ts";
import { SequenceSource, tsvalAt } from "./sequence.ts";
import { firstRefreshInterval, leaseWindow, openTimeout, refreshInterval, repeatAfter } from "./timing.ts";

export class Destination {
  readonly spec: PoolSpec;
  readonly block: PoolBlock;
  readonly arrivals: Arrivals;
  /** Given up for good. */
  retired = false;
  readonly port: number;
  readonly address: Uint8Array;
  readonly #services: KeeperServices;
  readonly #sequence: SequenceSource;
  readonly #ports: DestinationPorts;
  readonly #rtt = new RttEstimator();
  readonly #demand: Demand;
  readonly #bucket: SynAllowance;
  readonly #cookies: CookieGuard;
  readonly #live = new Map<number, LiveEntry>();
  readonly #ready = new Set<LiveEntry>();
  readonly #leases: Leases;
  readonly #offers: Offers;
  readonly #health: Health;
  readonly #route: Route;
  readonly #news: PoolNews;
  #opening = 0;

  constructor(spec: PoolSpec, services: KeeperServices, ports: DestinationPorts, secret: Uint8Array) {
    const address = parseAddress(spec.server.address);
    if (!address) throw new Error(`not an address: ${spec.server.address}`);
    this.spec = spec;
    this.address = address;
    this.port = spec.server.port;
    this.#services = services;
    this.#ports = ports;
    this.#sequence = new SequenceSource(secret, spec.server, spec.source);
    this.block = new PoolBlock(spec.max);
    this.#bucket = services.allowance(spec);
    this.#offers = new Offers(this.block);
    this.#demand = new Demand(services.nowMs(), spec.budget ? 0 : 1);
    this.arrivals = new Arrivals(this.block, this.#demand, this.#rtt);
    this.#news = new PoolNews(spec, services.log);
    const [block, offers, rtt, news] = [this.block, this.#offers, this.#rtt, this.#news];
    this.#cookies = new CookieGuard({ services, block, offers, rtt, news });
    this.#leases = new Leases(services, this, ports, this.#rtt);
    this.#health = new Health(spec.max);
    this.#route = new Route(address, this.port, spec.source);
    this.block.set("leaseWindowMs", leaseWindow(0));
  }

  get share(): PoolShare {
    const [{ id, upstream, server, source, max }, { socketOptions }] = [this.spec, this.#services];
    const [{ tsOffset }, { buffer }] = [this.#sequence, this.block];
    return { id, upstream, server, source, max, socketOptions, tsOffset, buffer };
  }

  /** The entry whose local port this is, in any state but resting. */
  entryAt(port: number): LiveEntry | undefined {
    return this.#live.get(port);
  }

  /** Brings the pool to its target; what takers did since lies within `spanMs`. Returns ms until the next call. */
  tend(nowMs: number, spanMs: number): number {
    this.arrivals.count(nowMs, spanMs);
    this.#watchHealth(nowMs);
    const target = this.#target(nowMs);
    this.block.set("target", target);
    if (this.#health.isOpen) {
      if (this.spec.max > 1) this.#cookies.startCanary(this.#ready, nowMs);
      this.#shrink(target, nowMs);
      const wait = this.#fill(target);
      this.#publishCounts();
      return Math.min(wait, limits.KEEPER_SLEEP_MAX);
    }
    this.#publishCounts();
    return Math.max(1, this.#health.untilMs - nowMs);
  }

  /** Gives up every half-open. Leased entries stay their sessions'. */
  release(nowMs: number): void {
    for (const entry of [...this.#live.values()]) {
      if (!this.#leases.has(entry)) this.#giveUp(entry, nowMs, "released");
    }
    this.#publishCounts();
  }

  /** Offers an entry to nobody any more. False: a taker has it. */
  withdraw(entry: LiveEntry): boolean {
    return this.#offers.withdraw(entry);
  }

  /** What it learnt, for the same pool in another process. */
  get memory(): PoolMemory {
    return { rtt: this.#rtt.memory, demand: this.#demand.memory, isCookies: this.block.get("cookies") === 1 };
  }

  /** Goes on with what the same pool learnt in another process. */
  remember({ rtt, demand, isCookies }: PoolMemory): void {
    this.#rtt.remember(rtt);
    this.#demand.remember(demand);
    this.block.set("cookies", isCookies ? 1 : 0);
    this.#publishRtt();
  }

  /** Goes on with an entry of another process, whose words are in the table already. */
  adopt(entry: LiveEntry, nowMs: number): void {
    const state = this.#services.table.state(entry.index);
    this.#ports.adopt(entry.port);
    if (state !== "resting") this.#live.set(entry.port.number, entry);
    if (state === "resting") {
      this.#services.schedule(nowMs + this.#leases.longestRest(entry), entry);
    } else if (state === "opening") {
      this.#opening += 1;
      this.#services.schedule(entry.sentAtMs + openTimeout(this.#rtt), entry);
    } else if (state === "ready") {
      this.#ready.add(entry);
      this.#services.schedule(entry.sentAtMs + refreshInterval(this.#rtt.srttMs), entry);
      if (this.#ready.size <= this.spec.max) this.#offers.put(entry);
      else this.#giveUp(entry, nowMs, "released");
    } else {
      this.#leases.begin(entry);
    }
    this.#publishCounts();
  }

  /** Gives up every half-open for good: nothing is opened any more. */
  retire(nowMs: number): void {
    this.retired = true;
    this.block.set("paused", 1);
    this.release(nowMs);
  }

  /** True while a leased entry is in use: the destination cannot be forgotten. */
  get busy(): boolean {
    return this.#leases.size > 0;
  }

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
    if (state === "leased" || (state === "ready" && this.#offers.wasTaken(entry))) {
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
    this.#services.table.move(entry.index, "opening", "ready");
    this.#opening -= 1;
    this.#ready.add(entry);
    this.#health.onHeard(arrivedMs, this.#ready.size);
    this.#health.onAnswered();
    this.block.add("opened");
    this.#cookies.onFirstAnswer(segment.options.tsval, this.#ready, arrivedMs);
    this.#record(entry, segment, arrivedMs);
    this.#offers.put(entry);
    entry.attempts = 0;
    const [random, rttMs] = [Math.random(), this.#rtt.srttMs];
    const interval = entry.isForNow ? limits.TAKEN_SOON * (1 + random) : firstRefreshInterval(rttMs, random);
    this.#services.schedule(entry.sentAtMs + interval, entry);
    this.#publishCounts();
  }

  #onAnswer(entry: LiveEntry, segment: TcpSegment, arrivedMs: number, sinceSynMs: number): void {
    if (this.#offers.wasTaken(entry)) return;
    this.#health.onHeard(arrivedMs, this.#ready.size);
    const sameIrs = segment.seq === this.#services.table.getU32(entry.index, ENTRY.irs);
    const isLater = sinceSynMs >= this.#rtt.answerAfterMs();
    const solicited = isLater && sinceSynMs <= this.#rtt.answerWithinMs();
    if (this.#cookies.canary === entry) {
      const finding = this.#cookies.onCanaryAnswer(sameIrs, isLater && entry.attempts > 0);
      if (finding !== undefined) this.#endCanary(entry, finding, arrivedMs);
    } else if (!sameIrs) {
      this.block.add("vanished"); // it had forgotten us and opened another: ours now
      if (!this.#offers.withdraw(entry)) return;
      this.#record(entry, segment, arrivedMs);
      this.#offers.put(entry);
      this.#scheduleRefresh(entry);
    } else if (solicited || entry.attempts > 1) {
      if (entry.attempts === 1) this.#sampleRtt(sinceSynMs);
      this.#record(entry, segment, arrivedMs);
      this.block.add("refreshed");
      this.#scheduleRefresh(entry);
    } else {
      this.#giveUp(entry, arrivedMs, "tainted"); // its timer fired: the connection would start at cwnd 1
    }
  }

  /** A taker did something with the entry: it was taken, or finished, or both. */
  onNotice(entry: LiveEntry, nowMs: number): void {
    if (this.#offers.wasTaken(entry)) this.#onTaken(entry);
    if (!this.#leases.has(entry) || this.#services.table.state(entry.index) !== "finished") return;
    this.#live.delete(entry.port.number);
    this.#leases.end(entry, nowMs);
  }

  onTimer(entry: LiveEntry, nowMs: number): void {
    switch (this.#services.table.state(entry.index)) {
      case "opening":
        this.#onUnanswered(entry, nowMs);
        break;
      case "ready":
        this.#onRefreshDue(entry, nowMs);
        break;
      case "resting":
        this.#leases.onRested(entry, nowMs);
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
      this.#services.schedule(nowMs + openTimeout(this.#rtt), entry);
      return;
    }
    this.#giveUp(entry, nowMs, "vanished");
    const outcome = this.#health.onUnanswered(nowMs, entry.openedAtMs, entry.sentAtMs);
    if (outcome === "silent") {
      this.#backOff(nowMs, "upstream does not answer");
    } else if (outcome === "full") {
      this.#news.lowered(this.#health.ceiling);
      this.#shrink(this.#target(nowMs), nowMs);
    }
  }

  #onRefreshDue(entry: LiveEntry, nowMs: number): void {
    if (this.#offers.wasTaken(entry)) return;
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
    this.#services.schedule(nowMs + repeatAfter(entry.attempts, this.#rtt), entry);
  }

  /** Opens entries up to the target; returns the ms until it could open more. */
  #fill(target: number): number {
    let left = limits.OPENED_AT_ONCE;
    while (this.#opening + this.#offeredCount() < target && this.#held() < this.spec.max) {
      if (left-- === 0) return 0;
      const nowMs = this.#services.nowMs(); // opening hundreds takes ms, which must not count as their RTT
      if (!this.#bucket.tryTake(nowMs, this.#held())) return Math.max(1, this.#bucket.waitMs(nowMs));
      if (!this.#open(nowMs)) return limits.KEEPER_SLEEP_MAX;
    }
    return Number.POSITIVE_INFINITY;
  }

  #open(nowMs: number): boolean {
    const { table } = this.#services;
    let template: SynTemplate | undefined;
    let port: Port;
    try {
      template = this.#route.template(nowMs);
      port = this.#ports.take();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      if (template) this.#services.warnNoPort(error);
      else this.#backOff(nowMs, `no route to upstream (${error.code})`);
      return false;
    }
    const entry = this.#services.newEntry(this, port, nowMs);
    if (entry === undefined) {
      this.#ports.giveBack(port);
      return false;
    }
    const { index } = entry;
    const iss = this.#sequence.iss(port.number, nowMs);
    const tsval = tsvalAt(nowMs, this.#sequence.tsOffset);
    recordSyn(table, index, { pool: this.spec.id, port: port.number, iss, tsval }, template);
    table.move(index, "free", "opening");
    this.#live.set(port.number, entry);
    this.#opening += 1;
    this.#sendSyn(entry, nowMs, false);
    // A handshake with one SYN-ACK gives the upstream an RTT sample when it completes: the age of the entry,
    // which makes an RTO of seconds and a slow start to pacing. With two there is none (tcp_synack_rtt_meas()).
    // Where takers use up a full pool within TAKEN_SOON, one will do.
    entry.isForNow = this.block.get("target") <= this.#demand.perMs * limits.TAKEN_SOON;
    if (!entry.isForNow && this.#bucket.trySpare(nowMs)) this.#sendSyn(entry, nowMs, false);
    this.#services.schedule(nowMs + openTimeout(this.#rtt), entry);
    return true;
  }

  #sendSyn(entry: LiveEntry, nowMs: number, counted = true): void {
    if (counted) this.#bucket.take(nowMs);
    entry.sentAtMs = nowMs;
    this.block.add("syns");
    this.#services.table.set(entry.index, ENTRY.synAt, nowMs | 0);
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
      if (!this.#offers.withdraw(entry)) return false;
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

  #onTaken(entry: LiveEntry): void {
    this.#offers.settle(entry);
    this.#ready.delete(entry);
    this.#leases.begin(entry);
  }

  #held(): number {
    return this.#opening + this.#ready.size;
  }

  #offeredCount(): number {
    return this.#ready.size - (this.#cookies.canary === undefined ? 0 : 1);
  }

  #target(nowMs: number): number {
    const { min, max } = this.spec;
    if (this.retired || !this.#health.isOpen) return 0;
    const isCookies = this.block.get("cookies") === 1;
    if (isCookies && this.spec.source !== undefined) return 0; // the seed would go to the client (taker.ts)
    // A ceiling that was learnt holds for all we have there, the canary too.
    const canaries = this.#health.isLowered && this.#cookies.canary !== undefined ? 1 : 0;
    const ceiling = this.#health.ceiling - canaries;
    const wanted = Math.min(max, min + this.#demand.wanted(nowMs), ceiling);
    return isCookies ? Math.max(Math.min(min, ceiling), wanted >> 1) : wanted;
  }

  #shrink(target: number, nowMs: number): void {
    const slack = this.#health.isLowered ? 0 : 1 + (target >> 2);
    let surplus = this.#opening + this.#offeredCount() - target;
    if (surplus <= slack) return;
    for (const entry of this.#spare()) {
      if (surplus <= 0) return;
      this.#giveUp(entry, nowMs, "released");
      surplus -= 1;
    }
  }

  /** What may be given up, that of least use first. */
  *#spare(): Iterable<LiveEntry> {
    for (const entry of this.#live.values()) {
      if (this.#services.table.state(entry.index) === "opening") yield entry;
    }
    for (const entry of this.#ready) if (entry !== this.#cookies.canary) yield entry;
  }

  #watchHealth(nowMs: number): void {
    const wasLowered = this.#health.isLowered;
    const ended = this.#health.tick(nowMs);
    if (wasLowered && !this.#health.isLowered) this.#news.raised();
    if (ended === "blackholed") {
      this.block.set("silentFlights", 0);
      this.block.set("paused", 0);
      this.#news.resumed();
    }
    if (!this.#health.isOpen || this.retired) return;
    const offered = this.#offeredCount();
    if (this.block.get("silentFlights") >= limits.BLACKHOLED_FLIGHTS) this.#pause(nowMs);
    else if (offered >= Math.min(this.spec.min, this.#health.ceiling)) {
      this.block.set("settled", 1);
      if (offered > 0) this.#news.ready(offered);
    }
  }

  #pause(nowMs: number): void {
    const pauseMs = this.#health.pause(nowMs);
    this.block.set("paused", 1);
    this.block.add("blackholes");
    this.release(nowMs);
    this.#news.blackholed(pauseMs);
  }

  #backOff(nowMs: number, reason: string): void {
    if (!this.#health.isOpen) return;
    this.#health.backOff(nowMs);
    this.#news.paused(reason, nowMs);
    this.release(nowMs);
  }

  #endCanary(entry: LiveEntry, finding: Finding, nowMs: number): void {
    this.#cookies.endCanary(finding, nowMs);
    this.#giveUp(entry, nowMs, "released");
  }

  #record(entry: LiveEntry, segment: TcpSegment, arrivedMs: number): void {
    const { table, synOptions } = this.#services;
    const isCookie = this.#cookies.looksMade(segment.options.tsval);
    recordSynAck(table, entry.index, segment, synOptions, arrivedMs, isCookie);
  }

  #scheduleRefresh(entry: LiveEntry): void {
    entry.attempts = 0;
    this.#services.schedule(entry.sentAtMs + refreshInterval(this.#rtt.srttMs), entry);
  }

  #sampleRtt(rttMs: number): void {
    this.#rtt.sample(rttMs);
    this.#publishRtt();
  }

  #publishRtt(): void {
    this.block.set("leaseWindowMs", leaseWindow(this.#rtt.srttMs));
    this.block.set("rttUs", Math.round(this.#rtt.srttMs * 1e3));
  }

  #publishCounts(): void {
    this.block.set("halfOpen", this.#bucket.hold(this.#held()));
    this.block.set("ceiling", this.#health.learntCeiling);
    this.block.set("closed", this.#health.isOpen ? 0 : 1);
    if (!this.#health.isOpen) this.block.set("settled", 1);
  }
}
