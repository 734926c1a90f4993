/**
 * One worker's loop: accepts clients, hands completions to sessions, fires their deadlines.
 *
 * Deadlines need no queue: sessions keep their own, the engine remembers the earliest, and when it passes
 * looks at all sessions in use. Most deadlines move before they pass, so such a look is rare.
 */
import { EMFILE, ENFILE, ENOBUFS, ENOMEM } from "../../native/abi/errno.ts";
import { nowMs } from "../../native/clock.ts";
import { errnoCode } from "../../native/errno.ts";
import { Memory } from "../../native/memory.ts";
import type { Logger } from "../../pool/logger.ts";
import type { EngineCounters } from "./counters.ts";
import { type CompletionHandler, type Driver, SLOT_MAX, WAKE_SLOT } from "./driver.ts";
import { Flights } from "./flights.ts";
import * as limits from "./limits.ts";
import type { ListenerShare, UpstreamShare } from "./messages.ts";
import { Session } from "./session.ts";
import { type TakerFactory, UpstreamServers } from "./upstream.ts";

/** Slots from here on name listeners. */
const LISTENER_SLOTS = SLOT_MAX - 0xffff;
const ACCEPT_TAG = 0;
const DESCRIPTOR_SHORTAGE: ReadonlySet<number> = new Set([EMFILE, ENFILE, ENOBUFS, ENOMEM]);
const SHORTAGE_WARNING_INTERVAL = 10_000;

/** What a session needs of its engine. */
export interface SessionServices {
  readonly driver: Driver;
  readonly counters: EngineCounters;
  readonly flights: Flights;
  readonly log: Logger;
  /** SOCK_NONBLOCK or 0, for sockets the driver is given. */
  readonly socketFlags: number;
  /** Where connect() gets its address from. */
  readonly sockaddr: Memory;
  /** A session set this deadline. */
  watch(deadlineMs: number): void;
  /** The session is free. */
  ended(session: Session): void;
}

/** A listener on this worker. */
export interface ListenerState {
  share: ListenerShare;
  upstream: UpstreamServers;
}

interface Accepting extends ListenerState {
  readonly slot: number;
  readonly active: Int32Array;
  /** Accepted above maxConnections: not read until a slot is free, as if still in the backlog. */
  readonly parked: number[];
  armed: boolean;
  closing: boolean;
  retryMs: number;
}

export interface EngineOptions {
  readonly driver: Driver;
  readonly counters: EngineCounters;
  readonly takers: TakerFactory | undefined;
  readonly log: Logger;
  readonly socketFlags: number;
  /** Called when another thread woke the driver's eventfd. */
  readonly onWake: () => void;
  /** Called when a listener's socket is no longer used here. */
  readonly onUnlistened: (id: number) => void;
}

export class Engine implements SessionServices, CompletionHandler {
  readonly driver: Driver;
  readonly counters: EngineCounters;
  readonly log: Logger;
  readonly socketFlags: number;
  readonly flights = new Flights();
  readonly sockaddr = Memory.anonymous(128);
  readonly #takers: TakerFactory | undefined;
  readonly #onWake: () => void;
  readonly #onUnlistened: (id: number) => void;
  readonly #upstreams = new Map<string, UpstreamServers>();
  readonly #listeners = new Map<number, Accepting>();
  readonly #bySlot = new Map<number, Accepting>();
  readonly #sessions: Session[] = [];
  readonly #inUse: Session[] = [];
  readonly #free: Session[] = [];
  #nextDeadlineMs = Number.POSITIVE_INFINITY;
  #nextListenerSlot = LISTENER_SLOTS;
  #shortageWarnedMs = Number.NEGATIVE_INFINITY;
  #draining = false;

  constructor(options: EngineOptions) {
    this.driver = options.driver;
    this.counters = options.counters;
    this.log = options.log;
    this.socketFlags = options.socketFlags;
    this.#takers = options.takers;
    this.#onWake = options.onWake;
    this.#onUnlistened = options.onUnlistened;
  }

  get sessionCount(): number {
    return this.#inUse.length;
  }

  /** Waits for something and does it. */
  turn(): void {
    const now = nowMs();
    this.driver.run(Math.max(0, this.#nextDeadlineMs - now), this);
    if (nowMs() >= this.#nextDeadlineMs) this.#fireDeadlines(nowMs());
  }

  setUpstream(share: UpstreamShare): void {
    const upstream = new UpstreamServers(share, this.#takers);
    this.#upstreams.set(share.name, upstream);
    for (const listener of this.#listeners.values()) {
      if (listener.share.upstream === share.name) listener.upstream = upstream;
    }
  }

  dropUpstream(name: string): void {
    this.#upstreams.delete(name);
  }

  /** Starts accepting on a listener, or gives a known one new settings. */
  listen(share: ListenerShare): void {
    const upstream = this.#upstreams.get(share.upstream);
    if (!upstream) throw new Error(`listener ${share.name}: no upstream ${share.upstream}`);
    const known = this.#listeners.get(share.id);
    if (known) {
      known.share = share;
      known.upstream = upstream;
      return;
    }
    const listener: Accepting = {
      share,
      upstream,
      slot: this.#nextListenerSlot++,
      active: new Int32Array(share.activeCount),
      parked: [],
      armed: false,
      closing: false,
      retryMs: Number.POSITIVE_INFINITY,
    };
    this.#listeners.set(share.id, listener);
    this.#bySlot.set(listener.slot, listener);
    this.#accept(listener);
  }

  /** Stops accepting. Clients accepted so far are served; onUnlistened follows. */
  unlisten(id: number): void {
    const listener = this.#listeners.get(id);
    if (!listener) return;
    listener.closing = true;
    this.#listeners.delete(id);
    if (listener.armed) this.driver.cancel(listener.slot, ACCEPT_TAG);
    else this.#forget(listener);
  }

  /** Stops accepting everywhere; who waited for a free session is turned away. */
  drain(): void {
    this.#draining = true;
    for (const listener of [...this.#listeners.values()]) {
      this.unlisten(listener.share.id);
      for (const fd of listener.parked.splice(0)) this.driver.close(fd);
    }
  }

  get drained(): boolean {
    return this.#draining && this.#inUse.length === 0;
  }

  abort(): void {
    for (const session of [...this.#inUse]) session.abort(nowMs());
  }

  stop(): void {
    this.driver.stop();
    this.flights.close();
    this.sockaddr.close();
  }

  // CompletionHandler

  complete(slot: number, tag: number, result: number, bufferId: number, more: boolean): void {
    if (slot < LISTENER_SLOTS) this.#sessions[slot]!.complete(tag, result, bufferId, nowMs());
    else if (slot === WAKE_SLOT) this.#onWake();
    else this.#onAccepted(this.#bySlot.get(slot)!, result, more);
  }

  // SessionServices

  watch(deadlineMs: number): void {
    if (deadlineMs < this.#nextDeadlineMs) this.#nextDeadlineMs = deadlineMs;
  }

  ended(session: Session): void {
    const last = this.#inUse.pop()!;
    if (last !== session) {
      this.#inUse[session.listIndex] = last;
      last.listIndex = session.listIndex;
    }
    session.listIndex = -1;
    this.#free.push(session);
    const listener = session.listener as Accepting;
    Atomics.sub(listener.active, 0, 1);
    this.counters.add(listener.share.route, "active", -1);
    if (listener.parked.length > 0 || !listener.armed) this.#admit(listener);
  }

  // --- listeners ----------------------------------------------------------------------------------------------

  #accept(listener: Accepting): void {
    listener.armed = true;
    listener.retryMs = Number.POSITIVE_INFINITY;
    this.driver.accept(listener.share.fd, listener.slot, ACCEPT_TAG);
  }

  #onAccepted(listener: Accepting, result: number, more: boolean): void {
    if (!more) listener.armed = false;
    if (result >= 0) {
      if (listener.parked.length > 0 || !this.#begin(listener, result)) this.#park(listener, result);
    } else if (DESCRIPTOR_SHORTAGE.has(-result)) {
      this.#warnShortage(listener, -result);
    }
    if (!listener.armed && listener.closing) this.#forget(listener);
    else if (!listener.armed && listener.parked.length === 0) {
      if (result >= 0 || !DESCRIPTOR_SHORTAGE.has(-result)) this.#accept(listener);
      else this.#retryAccept(listener, limits.ACCEPT_RETRY);
    }
  }

  #forget(listener: Accepting): void {
    this.#bySlot.delete(listener.slot);
    this.#onUnlistened(listener.share.id);
  }

  /** Starts a session if the listener has room for one more. */
  #begin(listener: Accepting, client: number): boolean {
    if (Atomics.add(listener.active, 0, 1) >= listener.share.maxConnections) {
      Atomics.sub(listener.active, 0, 1);
      return false;
    }
    this.counters.add(listener.share.route, "total", 1);
    this.counters.add(listener.share.route, "active", 1);
    const session = this.#free.pop() ?? this.#newSession();
    session.listIndex = this.#inUse.push(session) - 1;
    session.begin(listener, client, nowMs());
    return true;
  }

  #newSession(): Session {
    if (this.#sessions.length >= limits.SESSIONS_MAX) throw new Error("more sessions than SESSIONS_MAX");
    const session = new Session(this.#sessions.length, this);
    this.#sessions.push(session);
    return session;
  }

  #park(listener: Accepting, client: number): void {
    listener.parked.push(client);
    if (listener.armed) this.driver.cancel(listener.slot, ACCEPT_TAG);
    this.#retryAccept(listener, limits.PARKED_POLL); // another worker may free the slot
  }

  #retryAccept(listener: Accepting, afterMs: number): void {
    listener.retryMs = nowMs() + afterMs;
    this.watch(listener.retryMs);
  }

  /** Room again, perhaps: parked clients first, then the backlog. */
  #admit(listener: Accepting): void {
    for (;;) {
      const client = listener.parked[0];
      if (client === undefined) break;
      if (!this.#begin(listener, client)) {
        this.#retryAccept(listener, limits.PARKED_POLL);
        return;
      }
      listener.parked.shift();
    }
    if (!listener.armed && !listener.closing) this.#accept(listener);
  }

  #warnShortage(listener: Accepting, errno: number): void {
    if (nowMs() - this.#shortageWarnedMs < SHORTAGE_WARNING_INTERVAL) return;
    this.#shortageWarnedMs = nowMs();
    const fields = { listener: listener.share.name, code: errnoCode(errno), sessions: this.sessionCount };
    this.log.warn(fields, "no descriptor for a new client, waiting: raise the open files limit");
  }

  #fireDeadlines(now: number): void {
    this.#nextDeadlineMs = Number.POSITIVE_INFINITY;
    for (let index = this.#inUse.length - 1; index >= 0; index--) {
      const session = this.#inUse[index];
      if (session === undefined) continue; // sessions ended by the one before
      if (session.deadlineMs <= now) session.expire(now);
      if (session.deadlineMs < this.#nextDeadlineMs) this.#nextDeadlineMs = session.deadlineMs;
    }
    for (const listener of this.#listeners.values()) {
      if (listener.retryMs <= now) {
        listener.retryMs = Number.POSITIVE_INFINITY;
        this.#admit(listener);
      } else {
        this.watch(listener.retryMs);
      }
    }
  }
}
