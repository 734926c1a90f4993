/**
 * One client and its upstream connection.
 *
 *             first bytes, EOF or takeAfter; every server full: queued until one has room
 *   waiting ───────────────┬── pool has one ──▶ unproven ──bytes, FIN or an ACK of data──▶ open
 *      │                   │                       │ reset                                 ▲
 *      │                   │                       ▼                                       │
 *      │                   │                    judging ──RST proves: no connection──┐     │
 *      │                   └── pool has none ──────┼────────▶ connecting ◀───────────┘     │
 *      │                                           │             │  └──── connected ───────┘
 *      └── client gone ─▶ closing ◀── anything else┴─────────────┴── no server in time
 *
 * Bytes (relay.ts) are safe because of three rules. A direction has one request at a time, receive or send, so at
 * most one buffer is in flight and a full peer stops its source. The first flight is sent again only from
 * judging, with the proof of DESIGN section 6 (upstream-proof.ts), and only once. A completion of an earlier upstream
 * socket is told by its epoch and touches nothing.
 *
 * A session can leave: suspend() cancels its requests, which may still bring bytes or say how many went out, and
 * begins no others; leave() then makes a record of it, and adopt() goes on from one. Waiting, connecting, unproven and
 * open leave as they are, queued as waiting, judging becomes connecting or closing first, closing ends.
 *
 * Read DESIGN.md section 6 and pool/entry-table.ts first.
 */
import { performance } from "node:perf_hooks";
import { EADDRNOTAVAIL, ECANCELED } from "../../native/abi/errno.ts";
import { SyscallError } from "../../native/errno.ts";
import { setLingerZero } from "../../native/sockopt.ts";
import type { Ending } from "../../pool/entry-table.ts";
import type { ConnectionPath } from "../status.ts";
import { ClientHeader } from "./client-header.ts";
import { COUNT } from "./counters.ts";
import type { ListenerState, SessionServices } from "./engine.ts";
import * as limits from "./limits.ts";
import { Relay, type RelayOwner } from "./relay.ts";
import { type PlaceOwner, SessionPlace } from "./session-place.ts";
import { type MovingSession, PORTABLE_STATES, type PortableState } from "./session-record.ts";
import { SessionTimes } from "./session-report.ts";
import { OP } from "./session-requests.ts";
import { assertMove, type SessionState } from "./session-state.ts";
import type { Server } from "./upstream.ts";

const NONE = -1;

export class Session implements RelayOwner, PlaceOwner {
  readonly slot: number;
  state: SessionState = "free";
  /** Where its client came from; set by begin(). */
  listener!: ListenerState;
  /** When something must have happened, ms of nowMs(); Infinity: never. */
  deadlineMs = Number.POSITIVE_INFINITY;
  /** Position in the engine's list of sessions in use. */
  listIndex = NONE;
  readonly #services: SessionServices;
  readonly #relay: Relay;
  readonly #place: SessionPlace;
  readonly #header = new ClientHeader();
  #path: ConnectionPath = "failed";
  #serversTried = 0;
  /** When it went to the upstream; 0 once the first byte came back. */
  #startedMs = 0;
  #stateSinceMs = 0;
  #lastActivityMs = 0;
  #connectDeadlineMs = 0;
  readonly #times = new SessionTimes();

  constructor(slot: number, services: SessionServices) {
    this.slot = slot;
    this.#services = services;
    this.#relay = new Relay(slot, services, this);
    this.#place = new SessionPlace(this, this.#relay);
  }

  /** Begins with an accepted socket, which the session owns from now on. */
  begin(listener: ListenerState, client: number, nowMs: number): void {
    this.listener = listener;
    this.#relay.begin(client, listener.share.route);
    this.#place.begin();
    this.#path = "failed";
    this.#serversTried = 0;
    this.#startedMs = nowMs;
    this.#times.begin(nowMs);
    this.#lastActivityMs = nowMs;
    this.#header.begin(listener.headers, client);
    this.#move("waiting", nowMs);
    this.#deadline(nowMs + this.#firstBytesMs);
    this.#relay.listenToClient();
  }

  /** Goes on with a session that left another engine; its sockets are this one's from now on. */
  adopt(listener: ListenerState, { record, sockets }: MovingSession, nowMs: number): void {
    this.listener = listener;
    this.#relay.adopt(sockets.client, listener.share.route, record);
    this.#header.begin(record.state === "waiting" ? listener.headers : undefined, sockets.client);
    this.#place.adopt(record.server);
    this.#path = record.path;
    this.#serversTried = record.serversTried;
    this.#startedMs = record.firstByteAgeMs === undefined ? 0 : nowMs - record.firstByteAgeMs;
    this.#times.begin(nowMs);
    this.#lastActivityMs = nowMs - record.idleMs;
    this.#connectDeadlineMs = nowMs + record.connectLeftMs;
    this.#relay.upstream.aim(this.#place.server, this.#place.source);
    if (sockets.upstream !== undefined) this.#relay.upstream.adopt(sockets.upstream, record.lease);
    this.#move(record.state, nowMs);
    this.#stateSinceMs = nowMs - record.stateAgeMs;
    this.#resume(record.state, nowMs);
  }

  /** Cancels what is under way and begins nothing new, until leave(). False: it ends or judges a reset, ask later. */
  suspend(): boolean {
    if (this.state === "queued") {
      this.#place.leaveLine();
      this.#move("waiting", this.#stateSinceMs - this.listener.share.takeAfterMs); // whose time is over
    }
    if (!(PORTABLE_STATES as readonly SessionState[]).includes(this.state)) return false;
    this.#relay.isSuspended = true;
    this.#relay.requests.cancelAll();
    return true;
  }

  /** After suspend(): "leaving" until nothing is in the kernel's hands, "staying" when it turned out that it ends. */
  get departure(): "staying" | "leaving" | "ready" {
    if (!this.#relay.isSuspended) return "staying";
    return this.#relay.requests.isIdle ? "ready" : "leaving";
  }

  /** Gives the session up: it is the caller's, sockets and all, and this object is free. Only when "ready". */
  leave(nowMs: number): MovingSession {
    const { driver } = this.#services;
    const state = this.state as PortableState;
    // A connect begun cannot be continued elsewhere: nothing was sent on it, the next owner begins another.
    if (state === "connecting") this.#relay.dropUpstream("passive");
    const { fd, lease } = this.#relay.upstream.release();
    const sockets = { client: this.#relay.client, upstream: fd === NONE ? undefined : fd };
    const held = this.#relay.record();
    const record = {
      ...held,
      // Whoever goes on with one that waits reads its header again.
      up: state === "waiting" ? Buffer.concat([this.#header.bytes, held.up]) : held.up,
      state,
      listener: this.listener.share.name,
      upstream: this.listener.upstream.name,
      server: this.#place.server?.name,
      lease,
      path: this.#path,
      serversTried: this.#serversTried,
      firstByteAgeMs: this.#startedMs === 0 ? undefined : nowMs - this.#startedMs,
      stateAgeMs: nowMs - this.#stateSinceMs,
      idleMs: nowMs - this.#lastActivityMs,
      connectLeftMs: this.#connectDeadlineMs - nowMs,
    };
    driver.disown(sockets.client);
    if (sockets.upstream !== undefined) driver.disown(sockets.upstream);
    this.#place.leave();
    this.#free(nowMs);
    return { record, sockets };
  }

  /** One completion of the driver's. `tag` is what the request was queued with. */
  complete(tag: number, result: number, bufferId: number, more: boolean, nowMs: number): void {
    const relay = this.#relay;
    const op = relay.requests.complete(tag);
    if (this.state === "closing" || op === undefined) {
      if (bufferId >= 0) this.#services.driver.release(bufferId);
      if (this.state === "closing" && relay.requests.isIdle) this.#end(nowMs);
      return;
    }
    if (result !== -ECANCELED) this.#lastActivityMs = nowMs;
    if (op === OP.connect) this.#onConnected(result, nowMs);
    else relay.complete(op, result, bufferId, more, nowMs);
  }

  /** The deadline has passed. */
  expire(nowMs: number): void {
    if (this.#relay.isSuspended) return;
    switch (this.state) {
      case "waiting":
        if (this.#header.isAwaited) this.#refuse("none within its time", nowMs);
        else this.#attach(nowMs);
        break;
      case "queued":
        this.#close("reset", nowMs);
        break;
      case "connecting":
        this.#onUnreachable(nowMs);
        break;
      case "unproven":
        this.#watchUnproven(nowMs);
        break;
      case "judging":
        this.#judge(nowMs);
        break;
      case "open":
        this.#watchIdle(nowMs);
        break;
      case "closing":
        this.#deadline(Number.POSITIVE_INFINITY);
        this.#services.warnStuck(this.slot);
        break;
      case "free":
        break;
    }
  }

  /** Ends the session at once: both sides get a reset. */
  abort(nowMs: number): void {
    if (this.state !== "closing" && this.state !== "free") this.#close("reset", nowMs);
  }

  // RelayOwner

  onClientFirst(nowMs: number): void {
    if (this.#relay.isSuspended) return;
    if (!this.#header.isAwaited || this.#readHeader(nowMs)) this.#attach(nowMs);
  }

  onClientFailed(nowMs: number): void {
    this.#close("reset", nowMs);
  }

  onUpstreamHeard(bytes: number, nowMs: number): void {
    if (this.state === "unproven") this.#prove(nowMs);
    if (bytes === 0 || this.#startedMs === 0) return;
    this.#services.counters.observeFirstByte(this.#path, (nowMs - this.#startedMs) / 1e3);
    this.#startedMs = 0;
    this.#times.firstByteMs = nowMs;
  }

  /** The upstream's socket failed. Before anything was heard of it, it may never have existed. */
  onUpstreamFailed(nowMs: number): void {
    if (this.state === "unproven" && this.#relay.mayReplay) this.#move("judging", nowMs);
    if (this.state === "judging") this.#judge(nowMs);
    else this.#close("reset", nowMs, "passive");
  }

  onBothEnded(nowMs: number): void {
    this.#close("fin", nowMs);
  }

  /** False when the client's own bytes have still to come, or never will. */
  #readHeader(nowMs: number): boolean {
    const relay = this.#relay;
    const reading = this.#header.read(relay.unsent, relay.hasClientEnded);
    relay.skip(reading.length);
    if (reading.kind === "whole" && relay.hasClientSpoken) return true;
    if (reading.kind === "malformed") this.#refuse(reading.reason, nowMs);
    else if (reading.kind === "nothing") this.#close("fin", nowMs);
    else relay.listenToClient();
    if (reading.kind === "whole") this.#deadline(nowMs + this.#firstBytesMs);
    return false;
  }

  get #firstBytesMs(): number {
    return this.#header.isAwaited ? limits.HEADER_WAIT : this.listener.share.takeAfterMs;
  }

  #refuse(reason: string, nowMs: number): void {
    this.#header.logRefusal(this.#services.log, this.listener.share.name, this.#relay.client, reason);
    this.#close("reset", nowMs);
  }

  #prove(nowMs: number): void {
    this.#relay.proof.prove();
    this.#place.reached();
    const { route } = this.#relay;
    this.#services.counters.add(route, COUNT.roundTripsSaved, 1);
    this.#services.counters.add(route, COUNT.secondsSaved, this.#relay.upstream.rttMs / 1e3);
    this.#move("open", nowMs);
    this.#deadline(nowMs + this.listener.share.idleTimeoutMs);
  }

  // --- the upstream connection ------------------------------------------------------------------------------------

  #attach(nowMs: number): void {
    this.#startedMs = nowMs;
    this.#times.attachedMs = nowMs;
    this.#connectDeadlineMs = nowMs + this.listener.upstream.connectTimeoutMs;
    this.#place.find(nowMs);
  }

  /** Waits for its turn as long as a connect may take. */
  onQueued(nowMs: number): void {
    this.#move("queued", nowMs);
    this.#deadline(this.#connectDeadlineMs);
  }

  /** Gets a connection to the server: from its pool, else by an ordinary connect. */
  onServer(server: Server | undefined, nowMs: number): void {
    if (!server) {
      this.#close("reset", nowMs);
      return;
    }
    this.#relay.upstream.aim(server, this.#place.source);
    if (this.#serversTried > 0 || this.state === "connecting") {
      this.#connect(nowMs);
      return;
    }
    this.#header.tell(this.#relay, this.listener.upstream.proxyProtocol);
    const startedMs = performance.now();
    if (!this.#relay.upstream.take()) {
      this.#path = "direct";
      this.#connect(nowMs);
      return;
    }
    this.#services.counters.observeMaterialize((performance.now() - startedMs) / 1e3);
    this.#path = "accelerated";
    this.#times.connectedMs = nowMs;
    this.#move("unproven", nowMs);
    this.#relay.goOnDown();
    if (this.#relay.hasClientSpoken) this.#relay.goOnUp(nowMs);
    else this.#relay.proof.acknowledge();
    this.#watchUnproven(nowMs);
  }

  #watchUnproven(nowMs: number): void {
    // A half-open the network forgot swallows the flight: bounded like a connect that is never answered.
    const limitMs = Math.max(this.listener.upstream.connectTimeoutMs, limits.FLIGHT_SILENCE + 100);
    const look = this.#relay.proof.look(nowMs - this.#stateSinceMs, limitMs);
    if (look === "proven") {
      this.#prove(nowMs);
    } else if (look === "lost") {
      this.#path = "failed";
      this.#place.failed(nowMs);
      this.#close("reset", nowMs);
    } else {
      this.#deadline(this.#stateSinceMs + look);
    }
  }

  #judge(nowMs: number): void {
    if (this.#relay.requests.isPending(OP.upstreamSend)) return; // it fails too and comes back here
    const verdict = this.#relay.upstream.verdict();
    if (verdict === "unborn") this.#replay(nowMs);
    else if (verdict === "other" || nowMs - this.#stateSinceMs >= limits.VERDICT_WAIT) {
      this.#close("reset", nowMs, "passive");
    } else {
      this.#deadline(nowMs + limits.VERDICT_POLL);
    }
  }

  /** The flight never arrived: sends it once more, over an ordinary connection. */
  #replay(nowMs: number): void {
    this.#path = "replayed";
    this.#relay.proof.replay();
    this.#services.log.debug({ server: this.#place.server?.name }, "replaying a first flight");
    this.#relay.dropUpstream("passive");
    this.#connectDeadlineMs = nowMs + this.listener.upstream.connectTimeoutMs;
    this.#connect(nowMs);
  }

  #connect(nowMs: number): void {
    const server = this.#place.server!;
    if (this.state !== "connecting") this.#move("connecting", nowMs);
    if (this.#relay.isSuspended) return;
    this.#serversTried += 1;
    const hasData = this.#relay.hasClientSpoken || this.#relay.proof.flight.isKept;
    try {
      this.#relay.upstream.open(server, this.#services.socketFlags, hasData);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#services.warnShortage(error.errno);
      this.#close("reset", nowMs);
      return;
    }
    // Each server gets its share of the time, so that a silent one does not use up all of it.
    const { size } = this.listener.upstream;
    const share = this.listener.upstream.connectTimeoutMs / Math.max(1, size);
    this.#deadline(Math.min(this.#connectDeadlineMs, nowMs + share));
    const { sockaddr } = this.#services;
    sockaddr.bytes.set(server.sockaddr);
    this.#relay.requests.connect(this.#relay.upstream.fd, sockaddr.address, server.sockaddr.length);
  }

  #onConnected(result: number, nowMs: number): void {
    if (result === -ECANCELED && !this.#relay.upstream.isEstablished) return; // leave() says what becomes of it
    if (result < 0 && result !== -ECANCELED) {
      this.#services.log.debug({ server: this.#place.server?.name, errno: -result }, "connect failed");
      if (result === -EADDRNOTAVAIL) this.#tryNextServer(nowMs);
      else this.#onUnreachable(nowMs);
      return;
    }
    this.#place.reached();
    this.#times.connectedMs = nowMs;
    this.#relay.upstream.note();
    this.#move("open", nowMs);
    this.#deadline(nowMs + this.listener.share.idleTimeoutMs);
    this.#relay.goOnDown();
    this.#relay.goOnUp(nowMs);
  }

  #onUnreachable(nowMs: number): void {
    this.#place.failed(nowMs);
    this.#tryNextServer(nowMs);
  }

  #tryNextServer(nowMs: number): void {
    this.#relay.dropUpstream("passive");
    if (this.#serversTried >= this.listener.upstream.size || nowMs >= this.#connectDeadlineMs) {
      this.#close("reset", nowMs);
      return;
    }
    this.#place.leaveForGood();
    this.#place.find(nowMs);
  }

  /** Goes on where another engine stopped. */
  #resume(state: PortableState, nowMs: number): void {
    const relay = this.#relay;
    switch (state) {
      case "waiting":
        this.#deadline(this.#stateSinceMs + this.#firstBytesMs);
        if (relay.hasClientSpoken) this.onClientFirst(nowMs);
        else relay.listenToClient();
        break;
      case "connecting":
        if (!relay.hasClientSpoken) relay.listenToClient();
        this.#serversTried -= 1; // the same one again
        if (this.#place.server === undefined) this.#place.find(nowMs);
        else if (this.#place.source !== undefined) this.#connect(nowMs);
        else this.#close("reset", nowMs);
        break;
      case "unproven":
      case "open":
        this.#deadline(nowMs); // what the state waits for is looked up at once
        relay.goOnDown();
        relay.goOnUp(nowMs);
        break;
      default: {
        const unreachable: never = state;
        throw new Error(`session in state ${String(unreachable)}`);
      }
    }
  }

  // --- the end ----------------------------------------------------------------------------------------------------

  #watchIdle(nowMs: number): void {
    const idleUntilMs = this.#lastActivityMs + this.listener.share.idleTimeoutMs;
    if (nowMs >= idleUntilMs) this.#close("fin", nowMs);
    else this.#deadline(idleUntilMs);
  }

  /**
   * Ends both sides with a FIN or a RST; the session is free once its last request is over. `ending` says
   * what became of the upstream connection.
   */
  #close(
    how: "fin" | "reset",
    nowMs: number,
    ending: Ending = how === "fin" ? this.#relay.finEnding : "reset",
  ): void {
    const { driver, counters } = this.#services;
    const relay = this.#relay;
    const reached = this.state === "open" || this.state === "unproven" || this.state === "judging";
    const path = reached ? this.#path : "failed";
    counters.countPath(relay.route, path);
    this.#services.report?.(
      this.#times.report(this.listener, this.#place.server, relay, { path, end: how, endedMs: nowMs }),
    );
    this.#place.leaveLine();
    this.#move("closing", nowMs);
    this.#deadline(nowMs + limits.CLOSE_LIMIT);
    relay.requests.cancelClient();
    if (how === "reset") {
      setLingerZero(relay.client);
      if (relay.upstream.isOpen) setLingerZero(relay.upstream.fd);
    }
    relay.dropUpstream(ending);
    this.#place.leave();
    driver.close(relay.client);
    if (relay.requests.isIdle) this.#end(nowMs);
  }

  /** Nothing is in the kernel's hands any more: only now may buffers be someone else's. */
  #end(nowMs: number): void {
    this.#free(nowMs);
    this.#services.ended(this);
  }

  #free(nowMs: number): void {
    this.#relay.clear();
    this.#relay.client = NONE;
    this.#deadline(Number.POSITIVE_INFINITY);
    this.#move("free", nowMs);
  }

  #move(to: SessionState, nowMs: number): void {
    assertMove(this.state, to);
    if (to === "judging" || to === "closing") this.#relay.isSuspended = false; // it does not leave now
    this.state = to;
    this.#stateSinceMs = nowMs;
  }

  #deadline(deadlineMs: number): void {
    this.deadlineMs = deadlineMs;
    this.#services.watch(deadlineMs);
  }
}
