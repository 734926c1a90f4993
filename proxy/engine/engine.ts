/**
 * One worker's loop: accepts clients, hands completions to sessions, fires their deadlines.
 *
 * Deadlines need no queue: sessions keep their own, the engine remembers the earliest, and when it passes
 * looks at all sessions in use. Most deadlines move before they pass, so such a look is rare.
 *
 * Life of a listener here. It accepts one client at a time, and the next only when that one has a session; all
 * others stay in the backlog. The gates are the listener's maxConnections and the process's descriptors.
 *
 *   accepting ──client──▶ at gate 0 ──▶ at gate 1 ──▶ session begins, accepting
 *       │  ▲                  └ full: in line until a session of any worker ends ┘
 *       ▼  └──a session ended, or SHORTAGE_RETRY where there is none
 *     short (EMFILE, ENFILE, ENOBUFS, ENOMEM)
 */
import { EMFILE, ENFILE, ENOBUFS, ENOMEM } from "../../native/abi/errno.ts";
import { nowMs } from "../../native/clock.ts";
import { errnoCode } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { Memory } from "../../native/memory.ts";
import { acceptWaiting } from "../../native/net/tcp-socket.ts";
import { setBlocking } from "../../native/sockopt.ts";
import { Gate, type GateShare } from "../../pool/gate.ts";
import type { Logger } from "../../pool/logger.ts";
import { Seldom } from "../../pool/seldom.ts";
import { Line } from "../balance/line.ts";
import { PLAIN_HTTP } from "../http/messages.ts";
import { type HeaderPolicy, headerPolicy } from "./client-header.ts";
import { COUNT, type EngineCounters } from "./counters.ts";
import { Departures } from "./departures.ts";
import { type CompletionHandler, type Driver, SLOT_MAX, WAKE_SLOT } from "./driver.ts";
import { Flights } from "./flights.ts";
import { LearnedServers, type LearnedServices, TransparentPolicy } from "./learned-servers.ts";
import * as limits from "./limits.ts";
import type { ListenerShare, UpstreamShare, Visit } from "./messages.ts";
import { Session } from "./session.ts";
import type { MovingSession } from "./session-record.ts";
import type { SessionReport } from "./session-report.ts";
import { type ServerChoice, type TakerFactory, UpstreamServers } from "./upstream.ts";
import type { Marking } from "./upstream-socket.ts";

/** Slots from here on name listeners. */
const LISTENER_SLOTS = SLOT_MAX - 0xffff;
const ACCEPT_TAG = 0;
const DESCRIPTOR_SHORTAGE: ReadonlySet<number> = new Set([EMFILE, ENFILE, ENOBUFS, ENOMEM]);
const NONE = -1;

/** What a session needs of its engine. */
export interface SessionServices extends Marking {
  readonly driver: Driver;
  readonly counters: EngineCounters;
  readonly flights: Flights;
  readonly log: Logger;
  /** Told of each session that ended; undefined when nobody wants to know. */
  readonly report: ((report: SessionReport) => void) | undefined;
  /** SOCK_NONBLOCK or 0, for sockets the driver is given. */
  readonly socketFlags: number;
  /** Where connect() gets its address from. */
  readonly sockaddr: Memory;
  /** A session set this deadline. */
  watch(deadlineMs: number): void;
  /** The session is free. */
  ended(session: Session): void;
  /** The system had no descriptor or memory for something; said at most every WARNING_INTERVAL. */
  warnShortage(errno: number): void;
  /** A session's requests are not over although its time is; said as seldom. */
  warnStuck(slot: number): void;
}

/** A listener on this worker. */
export interface ListenerState {
  share: ListenerShare;
  /** Undefined: its clients send no PROXY header. */
  headers: HeaderPolicy | undefined;
  /** Undefined: its clients connect to it, and to nobody else. */
  transparent: TransparentPolicy | undefined;
  upstream: ServerChoice;
}

interface Accepting extends ListenerState {
  readonly slot: number;
  /** Ours: the driver must know when its number means another file. */
  readonly fd: Fd;
  /** What a client has to pass, in this order. */
  readonly gates: readonly [Gate, Gate];
  armed: boolean;
  /** "taking": it ends with this, and who is in the backlog by then is served as far as there is room. */
  closing: "no" | "leaving" | "taking";
  /** Accepted and not yet through; NONE when there is none. */
  client: number;
  /** The gate at which it stands in line. */
  at: 0 | 1;
}

export interface EngineOptions {
  readonly driver: Driver;
  readonly counters: EngineCounters;
  readonly takers: TakerFactory | undefined;
  /** This worker's number, by which gates know it. */
  readonly worker: number;
  /** The descriptors that sessions of the whole process share. */
  readonly descriptors: GateShare;
  readonly log: Logger;
  readonly report: SessionServices["report"];
  readonly socketFlags: number;
  /** Called when another thread woke the driver's eventfd. */
  readonly onWake: () => void;
  /** Called when sessions have left, with how many are still here. */
  readonly onDeparted: (sessions: readonly MovingSession[], left: number) => void;
  /** Called when a listener's socket is no longer used here. */
  readonly onUnlistened: (id: number) => void;
  readonly marking: Marking;
  /** Called when a client asked for a destination that has no pool. */
  readonly onVisited: (upstream: string, visit: Visit) => void;
}

export class Engine implements SessionServices, CompletionHandler, LearnedServices {
  readonly driver: Driver;
  readonly counters: EngineCounters;
  readonly log: Logger;
  readonly report: SessionServices["report"];
  readonly socketFlags: number;
  readonly upstreamMark: Marking["upstreamMark"];
  readonly ownConnections: Marking["ownConnections"];
  readonly onVisited: EngineOptions["onVisited"];
  readonly flights = new Flights();
  readonly sockaddr = Memory.anonymous(128);
  readonly #takers: TakerFactory | undefined;
  readonly #worker: number;
  readonly #descriptors: Gate;
  readonly #onWake: () => void;
  readonly #onDeparted: EngineOptions["onDeparted"];
  readonly #onUnlistened: (id: number) => void;
  readonly #departures = new Departures();
  readonly #upstreams = new Map<string, ServerChoice>();
  readonly #listeners = new Map<number, Accepting>();
  readonly #bySlot = new Map<number, Accepting>();
  readonly #sessions: Session[] = [];
  readonly #inUse: Session[] = [];
  readonly #free: Session[] = [];
  /** Listeners in line at a gate, longest first. */
  readonly #waiting: Accepting[] = [];
  /** Listeners for whose next client the system had no descriptor or memory. */
  readonly #short: Accepting[] = [];
  #retryMs = Number.POSITIVE_INFINITY;
  #nextDeadlineMs = Number.POSITIVE_INFINITY;
  #nextListenerSlot = LISTENER_SLOTS;
  readonly #shortages = new Seldom(limits.WARNING_INTERVAL);
  readonly #stuck = new Seldom(limits.WARNING_INTERVAL);
  readonly #freeListenerSlots: number[] = [];
  #draining = false;

  constructor(options: EngineOptions) {
    this.driver = options.driver;
    this.counters = options.counters;
    this.log = options.log;
    this.report = options.report;
    this.socketFlags = options.socketFlags;
    this.upstreamMark = options.marking.upstreamMark;
    this.ownConnections = options.marking.ownConnections;
    this.onVisited = options.onVisited;
    this.#takers = options.takers;
    this.#worker = options.worker;
    this.#descriptors = new Gate(options.descriptors, options.worker);
    this.#onWake = options.onWake;
    this.#onDeparted = options.onDeparted;
    this.#onUnlistened = options.onUnlistened;
  }

  get sessionCount(): number {
    return this.#inUse.length;
  }

  /** Waits for something and does it. */
  turn(): void {
    const now = nowMs();
    const { hasSettled } = this.#departures;
    this.driver.run(hasSettled ? 0 : Math.max(0, this.#nextDeadlineMs - now), this);
    if (nowMs() >= this.#nextDeadlineMs) this.#fireDeadlines(nowMs());
    if (hasSettled) this.#depart();
  }

  setUpstream(share: UpstreamShare): void {
    const before = this.#upstreams.get(share.name);
    const upstream = this.#upstream(share, before);
    this.#upstreams.set(share.name, upstream);
    for (const listener of this.#listeners.values()) {
      if (listener.share.upstream === share.name) listener.upstream = upstream;
    }
    upstream.line.serve(nowMs()); // perhaps with a server that has room
  }

  dropUpstream(name: string): void {
    this.#upstreams.delete(name);
  }

  /** Starts accepting on a listener, or gives a known one new settings. */
  listen(share: ListenerShare): void {
    const upstream = this.#upstreams.get(share.upstream);
    if (!upstream) throw new Error(`listener ${share.name}: no upstream ${share.upstream}`);
    const known = this.#listeners.get(share.id);
    const gate = known?.gates[0] ?? new Gate(share.gate, this.#worker);
    gate.limit = share.maxConnections;
    if (known) {
      const { line } = known.upstream;
      known.share = share;
      known.headers = headerPolicy(share.proxyProtocol);
      known.transparent = share.transparent && new TransparentPolicy(share.transparent);
      known.upstream = upstream;
      line.serve(nowMs()); // the new one may have room for those who waited at the old one
      return;
    }
    const fd = Fd.duplicate(share.fd);
    setBlocking(fd.number); // an http worker that had it before set it otherwise
    const listener: Accepting = {
      share,
      headers: headerPolicy(share.proxyProtocol),
      transparent: share.transparent && new TransparentPolicy(share.transparent),
      upstream,
      slot: this.#freeListenerSlots.pop() ?? this.#nextListenerSlot++,
      fd,
      gates: [gate, this.#descriptors],
      armed: false,
      closing: "no",
      client: NONE,
      at: 0,
    };
    this.#listeners.set(share.id, listener);
    this.#bySlot.set(listener.slot, listener);
    this.#accept(listener);
  }

  /**
   * Stops accepting. Clients accepted so far are served, with `isLast` those in the backlog too; onUnlistened follows.
   */
  unlisten(id: number, isLast: boolean): void {
    const listener = this.#listeners.get(id);
    if (!listener) return;
    listener.closing = isLast ? "taking" : "leaving";
    this.#listeners.delete(id);
    if (listener.armed) this.driver.cancel(listener.slot, ACCEPT_TAG);
    else this.#leave(listener);
  }

  /** Stops accepting everywhere; who waited for a free session is turned away. */
  drain(): void {
    this.#draining = true;
    for (const { share } of [...this.#listeners.values()]) this.unlisten(share.id, true);
    for (const listener of this.#waiting.splice(0)) {
      const { client, gates, at } = listener;
      if (!gates[at].abandon()) gates[at].leave();
      if (at === 1) gates[0].leave();
      this.driver.close(client);
    }
  }

  get drained(): boolean {
    return this.#draining && this.#inUse.length === 0;
  }

  abort(): void {
    for (const session of [...this.#inUse]) session.abort(nowMs());
  }

  /** Has up to `max` sessions leave; onDeparted follows, within VERDICT_WAIT for those that judge a reset. */
  depart(max: number): void {
    this.#departures.begin(this.#inUse, max);
  }

  /** Goes on with sessions that left another engine. Their listener need not listen here, nor any more. */
  adopt(share: ListenerShare, sessions: readonly MovingSession[]): void {
    const listener = this.#listeners.get(share.id) ?? this.#formerListener(share);
    for (const moving of sessions) {
      for (const gate of listener.gates) gate.admit();
      this.#newSession().adopt(listener, moving, nowMs());
    }
  }

  stop(): void {
    this.driver.stop();
    for (const { fd } of this.#bySlot.values()) fd.close();
    this.flights.close();
    this.sockaddr.close();
  }

  // CompletionHandler

  complete(slot: number, tag: number, result: number, bufferId: number, more: boolean): void {
    if (slot < LISTENER_SLOTS) this.#sessions[slot]!.complete(tag, result, bufferId, more, nowMs());
    else if (slot === WAKE_SLOT) {
      this.#onWake();
      this.#resume();
      for (const { line } of this.#upstreams.values()) line.serve(nowMs());
    } else this.#onAccepted(this.#bySlot.get(slot)!, result);
  }

  // SessionServices

  watch(deadlineMs: number): void {
    if (deadlineMs < this.#nextDeadlineMs) this.#nextDeadlineMs = deadlineMs;
  }

  ended(session: Session): void {
    this.#remove(session);
  }

  #remove(session: Session): void {
    const last = this.#inUse.pop()!;
    if (last !== session) {
      this.#inUse[session.listIndex] = last;
      last.listIndex = session.listIndex;
    }
    session.listIndex = -1;
    this.#free.push(session);
    const { gates } = session.listener as Accepting;
    gates[1].leave();
    gates[0].leave();
  }

  warnShortage(errno: number): void {
    if (this.#shortages.due(nowMs()) === undefined) return;
    const fields = { code: errnoCode(errno), sessions: this.sessionCount };
    this.log.warn(fields, "no descriptor or memory for a connection (see docs/operating/tune.md)");
  }

  warnStuck(slot: number): void {
    const unsaid = this.#stuck.due(nowMs());
    if (unsaid !== undefined) this.log.warn({ slot, unsaid }, "session does not end");
  }

  // --- listeners ----------------------------------------------------------------------------------------------

  #accept(listener: Accepting): void {
    listener.armed = true;
    this.driver.accept(listener.fd.number, listener.slot, ACCEPT_TAG);
  }

  #onAccepted(listener: Accepting, result: number): void {
    listener.armed = false;
    if (result >= 0) this.#admit(listener, result);
    if (listener.closing !== "no") {
      this.#leave(listener);
    } else if (result >= 0) {
      return;
    } else if (DESCRIPTOR_SHORTAGE.has(-result)) {
      this.#awaitDescriptor(listener, -result);
    } else {
      this.#accept(listener);
    }
  }

  #admit(listener: Accepting, client: number): void {
    listener.client = client;
    listener.at = 0;
    this.#pass(listener);
  }

  /** Who is in the backlog was told that he is connected. */
  #leave(listener: Accepting): void {
    while (listener.closing === "taking" && listener.client === NONE) {
      const client = acceptWaiting(listener.fd.number);
      if (client === undefined) break;
      this.#admit(listener, client);
    }
    this.#bySlot.delete(listener.slot);
    this.#freeListenerSlots.push(listener.slot);
    this.driver.disown(listener.fd.number); // others may have the socket: closing a descriptor ends no watch of it
    listener.fd.close();
    this.#onUnlistened(listener.share.id);
  }

  /** Takes an accepted client from the gate where it is as far as there is room. */
  #pass(listener: Accepting): void {
    if (!listener.gates[listener.at].enter()) this.#waiting.push(listener);
    else this.#passed(listener);
  }

  #passed(listener: Accepting): void {
    if (listener.at === 0) {
      listener.at = 1;
      this.#pass(listener);
      return;
    }
    const { client, share } = listener;
    listener.client = NONE;
    if (listener.closing === "no") this.#accept(listener);
    this.counters.add(share.route, COUNT.total, 1);
    this.#newSession().begin(listener, client, nowMs());
  }

  /** Another thread woke us, perhaps because somebody of ours is at the head of a line. */
  #resume(): void {
    if (this.#short.length > 0) this.#acceptAgain();
    if (this.#waiting.length === 0) return;
    for (const listener of this.#waiting.splice(0)) {
      if (listener.gates[listener.at].redeem()) this.#passed(listener);
      else this.#waiting.push(listener);
    }
  }

  /** The next session that ends, in whichever worker, brings one. Without a session nothing of ours will. */
  #awaitDescriptor(listener: Accepting, errno: number): void {
    this.warnShortage(errno);
    this.#short.push(listener);
    if (this.#descriptors.listen()) return;
    this.#retryMs = nowMs() + limits.SHORTAGE_RETRY;
    this.watch(this.#retryMs);
  }

  #acceptAgain(): void {
    this.#retryMs = Number.POSITIVE_INFINITY;
    for (const listener of this.#short.splice(0)) if (listener.closing === "no") this.#accept(listener);
  }

  /** A free session, which is in use from now on. */
  #newSession(): Session {
    let session = this.#free.pop();
    if (session === undefined) {
      if (this.#sessions.length >= limits.SESSIONS_MAX) throw new Error("more sessions than SESSIONS_MAX");
      session = new Session(this.#sessions.length, this);
      this.#sessions.push(session);
    }
    session.listIndex = this.#inUse.push(session) - 1;
    return session;
  }

  #depart(): void {
    const leaving = this.#departures.take().map((session) => {
      const moving = session.leave(nowMs());
      this.#remove(session);
      return moving;
    });
    const inLine = this.#waiting.filter(({ client }) => client !== NONE).length;
    this.#onDeparted(leaving, this.#inUse.length + inLine);
  }

  /** For sessions whose listener is gone: they go on as after a reload that removed it. */
  #formerListener(share: ListenerShare): Accepting {
    const { upstream: name, gate } = share;
    const line = Line.create(gate.wakeFds);
    const gone = {
      name,
      policy: "round-robin",
      connectTimeoutMs: 0,
      maxQueue: 0,
      line,
      proxyProtocol: "none",
      servers: [],
      http: PLAIN_HTTP,
    } as const;
    return {
      share,
      headers: undefined,
      transparent: undefined,
      upstream: this.#upstreams.get(name) ?? this.#upstream(gone),
      slot: NONE,
      fd: Fd.none(),
      gates: [new Gate(gate, this.#worker), this.#descriptors],
      armed: false,
      closing: "leaving",
      client: NONE,
      at: 0,
    };
  }

  /** An upstream as it is now, with the line that it had `before`. */
  #upstream(share: UpstreamShare, before?: ServerChoice): ServerChoice {
    const line = before?.line ?? new Line(share.line, this.#worker);
    const options = { share, line, takers: this.#takers, services: this };
    return share.isLearned
      ? new LearnedServers({ ...options, before: before instanceof LearnedServers ? before : undefined })
      : new UpstreamServers({ ...options, before: before instanceof UpstreamServers ? before : undefined });
  }

  #fireDeadlines(now: number): void {
    this.#nextDeadlineMs = Number.POSITIVE_INFINITY;
    for (let index = this.#inUse.length - 1; index >= 0; index--) {
      const session = this.#inUse[index];
      if (session === undefined) continue; // sessions ended by the one before
      if (session.deadlineMs <= now) session.expire(now);
      if (session.deadlineMs < this.#nextDeadlineMs) this.#nextDeadlineMs = session.deadlineMs;
    }
    if (this.#retryMs <= now) this.#acceptAgain();
    else this.watch(this.#retryMs);
  }
}
