/**
 * One client and its upstream connection.
 *
 *             first bytes, EOF or takeAfter
 *   waiting ───────────────┬── pool has one ──▶ unproven ──bytes, FIN or an ACK of data──▶ open
 *      │                   │                       │ reset                                 ▲
 *      │                   │                       ▼                                       │
 *      │                   │                    judging ──RST proves: no connection──┐     │
 *      │                   └── pool has none ──────┼────────▶ connecting ◀───────────┘     │
 *      │                                           │             │  └──── connected ───────┘
 *      └── client gone ─▶ closing ◀── anything else┴─────────────┴── no server in time
 *
 * Bytes are safe because of three rules. A direction has one request at a time, receive or send, so at most
 * one buffer is in flight and a full peer stops its source. The first flight is sent again only from
 * judging, with the proof of DESIGN section 6, and only once. A completion of an earlier upstream socket is
 * told by its epoch and touches nothing.
 *
 * Read DESIGN.md section 6 and pool/entry-table.ts first.
 */
import { SHUT_WR } from "../../native/abi/socket.ts";
import { SyscallError } from "../../native/errno.ts";
import { setLingerZero } from "../../native/sockopt.ts";
import type { Ending } from "../../pool/entry-table.ts";
import type { ConnectionPath } from "../status.ts";
import type { ListenerState, SessionServices } from "./engine.ts";
import * as limits from "./limits.ts";
import { OP, SessionRequests } from "./session-requests.ts";
import { assertMove, type SessionState } from "./session-state.ts";
import type { Server } from "./upstream.ts";
import { UpstreamProof } from "./upstream-proof.ts";
import { UpstreamSocket } from "./upstream-socket.ts";

const NONE = -1;

export class Session {
  readonly slot: number;
  state: SessionState = "free";
  /** Where its client came from; set by begin(). */
  listener!: ListenerState;
  /** When something must have happened, ms of nowMs(); Infinity: never. */
  deadlineMs = Number.POSITIVE_INFINITY;
  /** Position in the engine's list of sessions in use. */
  listIndex = NONE;
  readonly #services: SessionServices;
  readonly #requests: SessionRequests;
  readonly #upstream = new UpstreamSocket();
  readonly #proof: UpstreamProof;
  #client = NONE;
  #server: Server | undefined;
  #path: ConnectionPath = "failed";
  #sendingFlight = false;
  /** Bytes received from one side and not yet sent to the other. */
  #upBuffer = NONE;
  #upLength = 0;
  #downBuffer = NONE;
  #clientEnded = false;
  #upstreamEnded = false;
  #clientEndedFirst = false;
  #finSent = false;
  #serversTried = 0;
  #startedMs = 0;
  #stateSinceMs = 0;
  #lastActivityMs = 0;
  #connectDeadlineMs = 0;

  constructor(slot: number, services: SessionServices) {
    this.slot = slot;
    this.#services = services;
    this.#requests = new SessionRequests(services.driver, slot);
    this.#proof = new UpstreamProof(services.flights, this.#upstream);
  }

  /** Begins with an accepted socket, which the session owns from now on. */
  begin(listener: ListenerState, client: number, nowMs: number): void {
    this.listener = listener;
    this.#client = client;
    this.#path = "failed";
    this.#clientEnded = false;
    this.#upstreamEnded = false;
    this.#clientEndedFirst = false;
    this.#finSent = false;
    this.#proof.reset();
    this.#sendingFlight = false;
    this.#serversTried = 0;
    this.#startedMs = nowMs;
    this.#lastActivityMs = nowMs;
    this.#move("waiting", nowMs);
    this.#deadline(nowMs + listener.share.takeAfterMs);
    this.#requests.receive(OP.clientRecv, client);
  }

  /** One completion. `tag` is what the request was queued with. */
  complete(tag: number, result: number, bufferId: number, nowMs: number): void {
    const op = this.#requests.complete(tag);
    if (this.state === "closing" || op === undefined) {
      if (bufferId >= 0) this.#services.driver.release(bufferId);
      if (this.state === "closing" && this.#requests.isIdle) this.#end(nowMs);
      return;
    }
    this.#lastActivityMs = nowMs;
    switch (op) {
      case OP.clientRecv:
        this.#onClientReceived(result, bufferId, nowMs);
        break;
      case OP.upstreamSend:
        this.#onUpstreamSent(result, nowMs);
        break;
      case OP.upstreamRecv:
        this.#onUpstreamReceived(result, bufferId, nowMs);
        break;
      case OP.clientSend:
        this.#onClientSent(result, nowMs);
        break;
      case OP.connect:
        this.#onConnected(result, nowMs);
        break;
    }
  }

  /** The deadline has passed. */
  expire(nowMs: number): void {
    switch (this.state) {
      case "waiting":
        this.#attach(nowMs);
        break;
      case "connecting":
        this.#tryNextServer(nowMs);
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
        this.#services.log.warn({ slot: this.slot }, "session does not end");
        break;
      case "free":
        break;
    }
  }

  /** Ends the session at once: both sides get a reset. */
  abort(nowMs: number): void {
    if (this.state !== "closing" && this.state !== "free") this.#close("reset", nowMs);
  }

  // --- from the client ----------------------------------------------------------------------------------------

  #onClientReceived(result: number, bufferId: number, nowMs: number): void {
    if (result < 0) {
      this.#close("reset", nowMs);
      return;
    }
    if (result === 0) {
      this.#clientEnded = true;
      if (!this.#upstreamEnded) this.#clientEndedFirst = true;
    } else {
      this.#upBuffer = bufferId;
      this.#upLength = result;
      this.#services.counters.add(this.listener.share.route, "bytesUpstream", result);
    }
    if (this.state === "waiting") this.#attach(nowMs);
    else if (this.state === "unproven" || this.state === "open") this.#sendUpstream(nowMs);
    // connecting, judging: what was received waits until there is a connection
  }

  /** Passes on what the client sent: a flight to be sent again, its bytes, then its end. */
  #sendUpstream(nowMs: number): void {
    if (this.#requests.isPending(OP.upstreamSend)) return; // its completion comes back here
    const { flight } = this.#proof;
    if (flight.isKept && this.state === "open") {
      this.#sendingFlight = true;
      this.#requests.send(OP.upstreamSend, this.#upstream.fd, flight.address, flight.length);
    } else if (this.#upBuffer !== NONE) {
      const address = this.#services.driver.buffers.address(this.#upBuffer);
      if (this.state === "unproven") this.#proof.onSend(address, this.#upLength);
      this.#requests.send(OP.upstreamSend, this.#upstream.fd, address, this.#upLength);
    } else if (this.#clientEnded) {
      this.#endUpstream(nowMs);
    } else if (!this.#requests.isPending(OP.clientRecv)) {
      this.#requests.receive(OP.clientRecv, this.#client, this.#upLength >= limits.BUFFER_SIZE); // the one begun before a replay may still wait
    }
  }

  #onUpstreamSent(result: number, nowMs: number): void {
    if (this.#sendingFlight) {
      this.#sendingFlight = false;
      this.#proof.flight.drop();
    } else {
      this.#releaseUp();
    }
    if (this.state === "judging") this.#judge(nowMs);
    else if (result < 0) this.#onUpstreamReset(nowMs);
    else {
      this.#proof.onSent(result);
      this.#sendUpstream(nowMs);
    }
  }

  #endUpstream(nowMs: number): void {
    if (this.#finSent) return;
    this.#finSent = true;
    if (this.state === "unproven") this.#proof.flight.drop();
    this.#passEnd(this.#upstream.fd, nowMs);
  }

  /** Sends a FIN to one side; when it is the second one, by closing both. */
  #passEnd(fd: number, nowMs: number): void {
    if (this.#finSent && this.#upstreamEnded) this.#close("fin", nowMs);
    else this.#services.driver.shutdown(fd, SHUT_WR);
  }

  // --- from the upstream ----------------------------------------------------------------------------------------

  #onUpstreamReceived(result: number, bufferId: number, nowMs: number): void {
    if (result < 0) {
      this.#onUpstreamReset(nowMs);
      return;
    }
    if (this.state === "unproven") this.#prove(nowMs);
    if (result === 0) {
      this.#upstreamEnded = true;
      this.#passEnd(this.#client, nowMs);
      return;
    }
    this.#countFirstByte(nowMs);
    this.#downBuffer = bufferId;
    this.#services.counters.add(this.listener.share.route, "bytesDownstream", result);
    this.#requests.send(OP.clientSend, this.#client, this.#services.driver.buffers.address(bufferId), result);
  }

  #onClientSent(result: number, nowMs: number): void {
    this.#releaseDown();
    if (result < 0) this.#close("reset", nowMs);
    else this.#requests.receive(OP.upstreamRecv, this.#upstream.fd, result >= limits.BUFFER_SIZE);
  }

  /** The upstream's socket failed. Before anything was heard of it, it may never have existed. */
  #onUpstreamReset(nowMs: number): void {
    if (this.state !== "unproven" || this.#finSent || !this.#proof.mayReplay(this.#upBuffer === NONE)) {
      this.#close("reset", nowMs, "passive");
      return;
    }
    this.#move("judging", nowMs);
    this.#judge(nowMs);
  }

  #prove(nowMs: number): void {
    this.#proof.prove();
    this.#move("open", nowMs);
    this.#deadline(nowMs + this.listener.share.idleTimeoutMs);
  }

  #countFirstByte(nowMs: number): void {
    if (this.#startedMs === 0) return;
    this.#services.counters.observeFirstByte(this.#path, (nowMs - this.#startedMs) / 1e3);
    this.#startedMs = 0;
  }

  // --- the upstream connection ------------------------------------------------------------------------------------

  /** Gets an upstream connection: from the pool, else by an ordinary connect. */
  #attach(nowMs: number): void {
    const server = this.listener.upstream.next();
    if (!server) {
      this.#close("reset", nowMs); // every name of the upstream failed to resolve
      return;
    }
    this.#server = server;
    this.#startedMs = nowMs;
    this.#connectDeadlineMs = nowMs + this.listener.upstream.connectTimeoutMs;
    const startedMs = performance.now();
    if (!this.#upstream.take(server)) {
      this.#path = "direct";
      this.#connect(nowMs);
      return;
    }
    this.#services.counters.observeMaterialize((performance.now() - startedMs) / 1e3);
    this.#path = "accelerated";
    this.#move("unproven", nowMs);
    this.#requests.receive(OP.upstreamRecv, this.#upstream.fd);
    if (this.#upBuffer !== NONE || this.#clientEnded) this.#sendUpstream(nowMs);
    else this.#proof.acknowledge();
    this.#watchUnproven(nowMs);
  }

  #watchUnproven(nowMs: number): void {
    const look = this.#proof.look(nowMs - this.#stateSinceMs, this.#flightTimeoutMs());
    if (look === "proven") {
      this.#prove(nowMs);
    } else if (look === "lost") {
      this.#path = "failed";
      this.#close("reset", nowMs);
    } else {
      this.#deadline(this.#stateSinceMs + look);
    }
  }

  /** A half-open the network forgot swallows the flight: bounded like a connect that is never answered. */
  #flightTimeoutMs(): number {
    return Math.max(this.listener.upstream.connectTimeoutMs, limits.FLIGHT_SILENCE + 100);
  }

  #judge(nowMs: number): void {
    if (this.#requests.isPending(OP.upstreamSend)) return; // it fails too and comes back here
    const verdict = this.#upstream.verdict();
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
    this.#proof.replay();
    this.#services.log.debug({ server: this.#upstream.serverName }, "replaying a first flight");
    this.#dropUpstream("passive");
    this.#connectDeadlineMs = nowMs + this.listener.upstream.connectTimeoutMs;
    this.#connect(nowMs);
  }

  #connect(nowMs: number): void {
    const server = this.#server!;
    if (this.state !== "connecting") this.#move("connecting", nowMs);
    this.#serversTried += 1;
    try {
      this.#upstream.open(server, this.#services.socketFlags);
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
    this.#requests.connect(this.#upstream.fd, sockaddr.address, server.sockaddr.length);
  }

  #onConnected(result: number, nowMs: number): void {
    if (result < 0) {
      this.#services.log.debug({ server: this.#upstream.serverName, errno: -result }, "connect failed");
      this.#tryNextServer(nowMs);
      return;
    }
    this.#move("open", nowMs);
    this.#deadline(nowMs + this.listener.share.idleTimeoutMs);
    this.#requests.receive(OP.upstreamRecv, this.#upstream.fd);
    const waiting = this.#upBuffer !== NONE || this.#proof.flight.isKept || this.#clientEnded;
    if (waiting || !this.#requests.isPending(OP.clientRecv)) this.#sendUpstream(nowMs);
  }

  #tryNextServer(nowMs: number): void {
    this.#dropUpstream("passive");
    const { upstream } = this.listener;
    if (this.#serversTried >= upstream.size || nowMs >= this.#connectDeadlineMs) {
      this.#close("reset", nowMs);
      return;
    }
    this.#server = upstream.after(this.#server!);
    this.#connect(nowMs);
  }

  /** Lets go of the upstream socket; late completions of its requests are told by their epoch. */
  #dropUpstream(ending: Ending): void {
    this.#requests.abandonUpstream();
    this.#upstream.drop(this.#services.driver, ending, this.#proof.bytesSent);
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
    ending: Ending = how === "fin" ? this.#finEnding() : "reset",
  ): void {
    const { driver, counters } = this.#services;
    const reached = this.state === "open" || this.state === "unproven" || this.state === "judging";
    counters.countPath(this.listener.share.route, reached ? this.#path : "failed");
    this.#move("closing", nowMs);
    this.#deadline(nowMs + limits.CLOSE_LIMIT);
    this.#requests.cancelClient();
    if (how === "reset") {
      setLingerZero(this.#client);
      if (this.#upstream.isOpen) setLingerZero(this.#upstream.fd);
    }
    this.#dropUpstream(ending);
    driver.close(this.#client);
    this.#client = NONE;
    if (this.#requests.isIdle) this.#end(nowMs);
  }

  /** Who closed first decides whose TIME_WAIT it is. */
  #finEnding(): Ending {
    return this.#upstreamEnded && !this.#clientEndedFirst ? "passive" : "active";
  }

  /** Nothing is in the kernel's hands any more: only now may buffers be someone else's. */
  #end(nowMs: number): void {
    this.#proof.flight.drop();
    if (this.#upBuffer !== NONE) this.#releaseUp();
    if (this.#downBuffer !== NONE) this.#releaseDown();
    this.#deadline(Number.POSITIVE_INFINITY);
    this.#move("free", nowMs);
    this.#services.ended(this);
  }

  #move(to: SessionState, nowMs: number): void {
    assertMove(this.state, to);
    this.state = to;
    this.#stateSinceMs = nowMs;
  }

  #deadline(deadlineMs: number): void {
    this.deadlineMs = deadlineMs;
    this.#services.watch(deadlineMs);
  }

  #releaseUp(): void {
    this.#services.driver.release(this.#upBuffer);
    this.#upBuffer = NONE;
  }

  #releaseDown(): void {
    this.#services.driver.release(this.#downBuffer);
    this.#downBuffer = NONE;
  }
}
