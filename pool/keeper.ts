/**
 * Keeps the half-opens of every pool: hears SYN-ACKs and RSTs, sends SYNs, fires timers, lets each
 * destination tend to its size. One keeper a process; whoever owns its thread calls wait() and step().
 */
import { nowMs } from "../native/clock.ts";
import { SyscallError } from "../native/errno.ts";
import { EventFd } from "../native/eventfd.ts";
import { Fd } from "../native/fd.ts";
import { PollSet } from "../native/net/poll-set.ts";
import type { IntOption } from "../native/repair/image.ts";
import { RST, type TcpSegment } from "../native/wire/tcp.ts";
import { Budget, type BudgetSpec, SynAllowance } from "./budget.ts";
import { Destination } from "./destination.ts";
import { Endpoints } from "./endpoints.ts";
import { ENDINGS, ENTRY, type EntryTable } from "./entry-table.ts";
import type { Gate } from "./gate.ts";
import type { EntryRecord, KeeperRecord, KeeperSettlement } from "./handover.ts";
import { HandshakeWire, type SynOptions } from "./handshake-wire.ts";
import {
  type Hearing,
  type HearingKind,
  ipv6Exists,
  openHearing,
  openSteering,
  type PortGuard,
} from "./hearing.ts";
import type { KernelObjects } from "./kernel-objects.ts";
import * as limits from "./limits.ts";
import type { LiveEntry } from "./live-entry.ts";
import type { Logger } from "./logger.ts";
import type { PoolShare } from "./pool-block.ts";
import type { PoolSpec } from "./pool-spec.ts";
import { isGuarded, type Port, Reservations } from "./reservations.ts";
import { Seldom } from "./seldom.ts";
import { bootSecret } from "./sequence.ts";
import { KeeperSignal } from "./signal.ts";
import type { SteeredPorts } from "./steered-ports.ts";
import { readSynOptions } from "./syn-options.ts";
import { TimerWheel } from "./timer-wheel.ts";

/** What a destination asks of its keeper. */
export interface KeeperServices {
  readonly table: EntryTable;
  readonly wire: HandshakeWire;
  readonly reservations: Reservations;
  readonly synOptions: SynOptions;
  /** For every socket made of a half-open. */
  readonly socketOptions: readonly IntOption[];
  readonly log: Logger;
  nowMs(): number;
  /** What a pool may send, which those of one budget share. */
  allowance(spec: PoolSpec): SynAllowance;
  /** A free entry for a tuple, or undefined when the table is full. */
  newEntry(destination: Destination, port: Port, nowMs: number): LiveEntry | undefined;
  freeEntry(entry: LiveEntry): void;
  /** Has destination.onTimer(entry) called at `deadlineMs`, unless scheduled again before or freed. */
  schedule(deadlineMs: number, entry: LiveEntry): void;
  warnNoPort(error: SyscallError): void;
}

export interface KeeperOptions {
  readonly hearing?: HearingKind;
  /** What reservations share with others; without it they take as many as the system has. */
  readonly descriptors?: Gate | undefined;
  /** For sequence numbers and TSval clocks; bootSecret() unless another process goes before. */
  readonly secret?: Uint8Array;
  /** True: does nothing until adopt(). */
  readonly isHeld?: boolean;
  /** What another process made of bpf(2) for this one, its own from now on. */
  readonly objects?: KernelObjects | undefined;
  /** SO_MARK of its packets. */
  readonly mark?: number | undefined;
}

export class Keeper implements KeeperServices {
  readonly table: EntryTable;
  readonly wire: HandshakeWire;
  readonly reservations: Reservations;
  readonly synOptions = readSynOptions();
  readonly log: Logger;
  readonly #wakeUp = new EventFd();
  readonly #signal: KeeperSignal;
  readonly #secret: Uint8Array;
  readonly #timers: TimerWheel;
  readonly #hearing: Hearing & PortGuard;
  readonly #kind: HearingKind;
  /** Of the reservations. */
  #steered: SteeredPorts | undefined;
  readonly #destinations = new Map<number, Destination>();
  readonly #endpoints: Endpoints;
  readonly #budgets = new Map<string, Budget>();
  readonly #entries: (LiveEntry | undefined)[] = [];
  readonly #freeEntries: number[] = [];
  /** What ends a sleep, and what ends a nap. */
  #pollSets: { readonly sleep: PollSet; readonly nap: PollSet } | undefined;
  #isShort = false;
  /** Another process has the half-opens, or will hand them over: nothing is sent but for leases. */
  #isHeld: boolean;
  #nextTendMs = 0;
  #busyUntilMs = 0;
  /** Since when takers may have done what destinations have not seen. */
  #seenMs = 0;
  readonly #noPortWarnings = new Seldom(limits.WARNING_INTERVAL);
  readonly #lostWarnings = new Seldom(limits.WARNING_INTERVAL);
  #lost = 0;

  /** Throws SyscallError when `hearing` is steered or bpf and cannot be had. */
  constructor(table: EntryTable, signalBuffer: SharedArrayBuffer, log: Logger, options: KeeperOptions = {}) {
    const { hearing = "auto", descriptors, secret = bootSecret(), isHeld = false, objects, mark } = options;
    this.table = table;
    this.#timers = new TimerWheel(table.capacity, nowMs());
    this.wire = new HandshakeWire(table, mark);
    this.log = log;
    this.#secret = secret;
    this.#isHeld = isHeld;
    this.#kind = hearing;
    this.#hearing = openHearing(hearing, ipv6Exists(), log, objects);
    this.reservations = new Reservations(this.#hearing, descriptors);
    this.#endpoints = new Endpoints(
      table,
      this.reservations,
      (source) => new Reservations(this.#hearing, descriptors, source),
    );
    if (!isHeld) this.#steer();
    this.#signal = new KeeperSignal(signalBuffer, this.#wakeUp.fd.number);
  }

  /** The eventfd that wakes wait(); valid until close(). */
  get wakeFd(): number {
    return this.#wakeUp.fd.number;
  }

  get socketOptions(): readonly IntOption[] {
    return this.#hearing.socketOptions;
  }

  nowMs(): number {
    return nowMs();
  }

  allowance({ maxSynRate, budget }: PoolSpec): SynAllowance {
    return new SynAllowance(maxSynRate, budget && this.#budget(budget), nowMs());
  }

  #budget(spec: BudgetSpec): Budget {
    const key = `${spec.name} ${spec.maxHalfOpen} ${spec.maxSynRate}`;
    let budget = this.#budgets.get(key);
    if (budget === undefined) {
      budget = new Budget(spec, nowMs());
      this.#budgets.set(key, budget);
    }
    return budget;
  }

  /**
   * Starts keeping half-opens for a destination. Throws SyscallError EPERM without CAP_NET_RAW or
   * CAP_NET_ADMIN.
   */
  addPool(spec: PoolSpec): PoolShare {
    const family = spec.server.address.includes(":") ? 6 : 4;
    this.#listen(family);
    const destination = new Destination(spec, this, this.#endpoints.portsFor(spec), this.#secret);
    this.#endpoints.add(destination);
    this.#steerFor(destination);
    this.#destinations.set(spec.id, destination);
    this.#nextTendMs = 0;
    return destination.share;
  }

  /** Gives up the pool's half-opens; leased connections go on and are forgotten when they end. */
  removePool(id: number): void {
    const destination = this.#destinations.get(id);
    if (!destination) return;
    destination.retire(nowMs());
    this.#nextTendMs = 0;
  }

  /** Sleeps until there is something to do. Returns at once when something was signalled meanwhile. */
  wait(): void {
    const latest = nowMs() + limits.KEEPER_SLEEP_MAX;
    const deadline = this.#isHeld ? latest : Math.min(this.#timers.next, this.#nextTendMs, latest);
    const isBusy = nowMs() < this.#busyUntilMs;
    const timeoutMs = Math.min(
      Math.max(0, deadline - nowMs()),
      isBusy ? limits.KEEPER_NAP : Number.POSITIVE_INFINITY,
    );
    this.#pollSets ??= {
      sleep: new PollSet([this.#wakeUp.fd, ...this.#hearing.fds]),
      nap: new PollSet([this.#wakeUp.fd, ...this.#hearing.urgentFds]),
    };
    const pollSet = isBusy && !this.#isShort ? this.#pollSets.nap : this.#pollSets.sleep;
    if (isBusy) this.#signal.nap();
    if (timeoutMs > 0 && (isBusy || this.#signal.sleep())) {
      pollSet.wait(timeoutMs);
      if (!isBusy) this.#seenMs = nowMs(); // the first taker ended the sleep
    }
    this.#signal.wakeUp();
    if (pollSet.isReadable(0)) this.#wakeUp.drain();
  }

  /** Does everything that is due. */
  step(): void {
    this.#hearing.drain(this.#onSegment);
    this.#watchLost();
    const touched = this.#signal.takeTouched();
    this.#readNotices();
    if (this.#isHeld) return;
    this.#timers.popDue(nowMs(), this.#onTimer);
    if (touched) this.#busyUntilMs = nowMs() + limits.KEEPER_BUSY;
    if (!touched && nowMs() < this.#nextTendMs) return;
    let wait = limits.KEEPER_SLEEP_MAX;
    this.#isShort = false;
    for (const destination of this.#destinations.values()) {
      wait = Math.min(wait, destination.tend(nowMs(), nowMs() - this.#seenMs));
      this.#isShort ||= destination.block.isShort;
      if (destination.retired && !destination.busy) this.#forget(destination);
    }
    this.#seenMs = nowMs();
    this.#nextTendMs = this.#seenMs + wait;
  }

  /**
   * Offers nothing and sends nothing any more, and says what it has, for another process to go on with. Descriptors stay
   * open until close(). Leased entries stay their sessions'.
   */
  handOver(): KeeperRecord {
    this.#readNotices();
    // Pools of learned destinations begin anew there, when somebody comes back.
    for (const destination of this.#destinations.values())
      if (destination.spec.budget) destination.release(nowMs());
    this.#isHeld = true;
    const lasting = [...this.#destinations.values()].filter(({ spec }) => spec.budget === undefined);
    const pools = lasting.map((destination) => ({
      upstream: destination.spec.upstream,
      server: destination.spec.server,
      memory: destination.memory,
      entries: this.#entries.flatMap((entry) =>
        entry?.destination === destination ? [this.#entryRecord(entry)] : [],
      ),
    }));
    // A span of ports is one process's: the next one's, who hears for ours by their reservations.
    this.reservations.unsteer();
    this.#steered = undefined;
    const ports = [...this.reservations.ports].flatMap(({ number, fd }) =>
      fd ? [{ number, fd: fd.number }] : [],
    );
    return { ports, pools };
  }

  /** Goes on with what another process kept, whose descriptors are this one's now, and begins to work. */
  adopt({ ports, pools }: KeeperRecord): void {
    const byNumber = new Map<number, Port>();
    for (const { number, fd } of ports) this.#adoptPort(byNumber, number, new Fd(fd));
    for (const { upstream, server, memory, entries } of pools) {
      const users = this.#endpoints.users({ server });
      const destination = users.find(({ spec }) => spec.upstream === upstream) ?? users[0];
      destination?.remember(memory);
      for (const record of entries) {
        if (record.index >= this.table.capacity) continue;
        if (destination) this.#adoptEntry(destination, record, byNumber);
      }
    }
    for (let index = 0; index < this.#entries.length; index++) {
      if (this.#entries[index] === undefined) this.#freeEntries.push(index);
    }
    this.#steer();
    this.#isHeld = false;
    this.#nextTendMs = 0;
  }

  /** After a handOver() that came to nothing: begins anew, since nobody knows what became of the half-opens. */
  takeBack(): void {
    this.reservations.guardAgain();
    this.#steer();
    this.#isHeld = false;
    this.#nextTendMs = 0;
    for (const destination of this.#destinations.values()) destination.release(nowMs());
  }

  /** What became known since adopt(). */
  settle({ endedLeases, counts }: KeeperSettlement): void {
    for (const index of endedLeases) {
      const entry = this.#entries[index];
      if (entry === undefined || this.table.state(index) !== "leased") continue;
      this.table.set(index, ENTRY.ending, ENDINGS.indexOf("active")); // the longest rest: nobody knows better
      this.table.move(index, "leased", "finished");
      entry.destination.onNotice(entry, nowMs());
    }
    for (const { upstream, server, counts: inherited } of counts) {
      const users = this.#endpoints.users({ server });
      users.find(({ spec }) => spec.upstream === upstream)?.arrivals.inherit(inherited);
    }
  }

  /** Gives up every half-open (a RST each), unless another process has them, and closes all sockets. */
  close(): void {
    if (!this.#isHeld) for (const destination of this.#destinations.values()) destination.release(nowMs());
    this.#closePollSets();
    this.#hearing.close();
    this.reservations.close();
    this.#endpoints.close();
    this.wire.close();
    this.#wakeUp.close();
    this.#signal.end();
  }

  newEntry(destination: Destination, port: Port, openedAtMs: number): LiveEntry | undefined {
    const index = this.#freeEntries.pop() ?? this.#entries.length;
    if (index >= this.table.capacity) return undefined;
    const entry: LiveEntry = {
      index,
      destination,
      port,
      openedAtMs,
      slot: -1,
      sentAtMs: openedAtMs,
      attempts: 0,
      resetsSent: 0,
      isForNow: false,
    };
    this.#entries[index] = entry;
    return entry;
  }

  freeEntry(entry: LiveEntry): void {
    this.#entries[entry.index] = undefined;
    this.#timers.cancel(entry.index);
    this.#freeEntries.push(entry.index);
  }

  schedule(deadlineMs: number, entry: LiveEntry): void {
    this.#timers.set(entry.index, deadlineMs);
  }

  warnNoPort(error: SyscallError): void {
    if (this.#noPortWarnings.due(nowMs()) === undefined) return;
    this.log.warn(
      { code: error.code, reservations: this.reservations.open },
      "no port for a half-open: widen net.ipv4.ip_local_port_range or raise the descriptor limit",
    );
  }

  readonly #onTimer = (index: number): void => {
    const entry = this.#entries[index];
    if (entry) entry.destination.onTimer(entry, nowMs());
  };

  #readNotices(): void {
    for (;;) {
      const index = this.#signal.nextNotice();
      if (index < 0) return;
      const entry = this.#entries[index];
      if (entry) entry.destination.onNotice(entry, nowMs());
    }
  }

  readonly #onSegment = (
    source: Uint8Array,
    to: Uint8Array,
    segment: TcpSegment,
    arrivedMs: number,
  ): void => {
    const entry = this.#endpoints.entryFor(source, to, segment);
    if (!entry || (this.#isHeld && this.table.state(entry.index) !== "leased")) return;
    if ((segment.flags & RST) !== 0) entry.destination.onReset(entry, segment, arrivedMs);
    else entry.destination.onSynAck(entry, segment, arrivedMs);
    this.#nextTendMs = 0;
  };

  #entryRecord(entry: LiveEntry): EntryRecord {
    const { index, port, openedAtMs, sentAtMs, attempts, resetsSent, isForNow } = entry;
    const found = this.table.state(index);
    const isTaken = found === "ready" && !entry.destination.withdraw(entry);
    const state = isTaken ? "leased" : found === "finished" ? "resting" : found;
    const words = this.table.bytesOf(index).slice();
    return { index, state, words, port: port.number, openedAtMs, sentAtMs, attempts, resetsSent, isForNow };
  }

  #adoptPort(byNumber: Map<number, Port>, number: number, fd: Fd): void {
    try {
      byNumber.set(number, this.reservations.adopt(number, fd));
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      fd.close();
      this.warnNoPort(error);
    }
  }

  #adoptEntry(destination: Destination, record: EntryRecord, ports: Map<number, Port>): void {
    const {
      index,
      state,
      words,
      port: number,
      openedAtMs,
      sentAtMs,
      attempts,
      resetsSent,
      isForNow,
    } = record;
    // A lease may do without its reservation, which was closed; others may not.
    const port = ports.get(number) ?? this.reservations.adopt(number, Fd.none());
    if (state === "free" || (state !== "leased" && !isGuarded(port))) return;
    ports.set(number, port);
    this.table.adopt(index, words, state);
    this.table.set(index, ENTRY.pool, destination.spec.id);
    const entry: LiveEntry = {
      index,
      destination,
      port,
      openedAtMs,
      slot: -1,
      sentAtMs,
      attempts,
      resetsSent,
      isForNow,
    };
    this.#entries[index] = entry;
    destination.adopt(entry, nowMs());
  }

  /** From now on ports that share a listener come first, where they can be had. */
  #steer(): void {
    this.#steered = openSteering(this.#kind, this.#hearing, this.log);
    if (this.#steered === undefined) return;
    this.reservations.steer(this.#steered);
    for (const destination of this.#destinations.values()) this.#steerFor(destination);
  }

  /** Without bpf(2), which Linux before 5.19 may refuse once privileges were dropped, each port has its own listener. */
  #steerFor(destination: Destination): void {
    if (destination.spec.source !== undefined) return; // its ports are another address's
    try {
      this.#steered?.add(destination);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.log.warn({ err: error }, "ports can no longer share a listener: each half-open has its own");
      this.reservations.unsteer();
      this.#steered = undefined;
    }
  }

  #listen(family: 4 | 6): void {
    this.wire.open(family);
    if (this.#hearing.add(family)) this.#closePollSets();
  }

  #closePollSets(): void {
    this.#pollSets?.sleep.close();
    this.#pollSets?.nap.close();
    this.#pollSets = undefined;
  }

  /** What was lost comes again, later than it could have. */
  #watchLost(): void {
    const { lost } = this.#hearing;
    if (lost === this.#lost || this.#lostWarnings.due(nowMs()) === undefined) return;
    this.log.warn(
      { segments: (lost - this.#lost) >>> 0 },
      "SYN-ACKs or RSTs came faster than they were read",
    );
    this.#lost = lost;
  }

  #forget(destination: Destination): void {
    this.#destinations.delete(destination.spec.id);
    const isLast = this.#endpoints.remove(destination);
    if (isLast && destination.spec.source === undefined) this.#steered?.remove(destination);
  }
}
