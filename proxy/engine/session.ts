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
import { newTcpSocket } from "../../native/net/tcp-socket.ts";
import { getTcpInfo, setLingerZero, type TcpInfo } from "../../native/sockopt.ts";
import type { Ending } from "../../pool/entry-table.ts";
import type { Lease } from "../../pool/taker.ts";
import type { ConnectionPath } from "../status.ts";
import type { ListenerState, SessionServices } from "./engine.ts";
import * as limits from "./limits.ts";
import type { Server } from "./upstream.ts";

export type SessionState = "free" | "waiting" | "connecting" | "unproven" | "judging" | "open" | "closing";

const MOVES = {
  free: ["waiting"],
  waiting: ["connecting", "unproven", "closing"],
  connecting: ["open", "closing"],
  unproven: ["open", "judging", "closing"],
  judging: ["connecting", "closing"],
  open: ["closing"],
  closing: ["free"],
} as const satisfies Record<SessionState, readonly SessionState[]>;

/** Requests of a session; the low four bits of a tag, above them the epoch of the upstream socket. */
export const OP = {
  clientRecv: 0,
  clientSend: 1,
  upstreamRecv: 2,
  upstreamSend: 3,
  connect: 4,
} as const;
type Op = (typeof OP)[keyof typeof OP];
const OPS: readonly Op[] = Object.values(OP);

const NONE = -1;

export class Session {
  readonly slot: number;
  state: SessionState = "free";
  /** When something must have happened, ms of nowMs(); Infinity: never. */
  deadlineMs = Number.POSITIVE_INFINITY;
  /** Position in the engine's list of sessions in use. */
  listIndex = NONE;
  readonly #services: SessionServices;
  #listener!: ListenerState;
  /** Requests under way, a bit per op; for upstream ops of the current epoch only. */
  #pending = 0;
  /** How many requests of any epoch are under way: the session is free when none is. */
  #outstanding = 0;
  #epoch = 0;
  #client = NONE;
  #upstream = NONE;
  #server: Server | undefined;
  #lease: Lease | undefined;
  #path: ConnectionPath = "failed";
  /** The first flight, kept while it may have to be sent again. */
  #flight = NONE;
  #flightLength = 0;
  #sendingFlight = false;
  /** Bytes received from one side and not yet sent to the other. */
  #upBuffer = NONE;
  #upLength = 0;
  #downBuffer = NONE;
  #clientEnded = false;
  #upstreamEnded = false;
  #clientEndedFirst = false;
  #finSent = false;
  #ackSent = false;
  #acksSent = 0;
  #silenceReported = false;
  #serversTried = 0;
  #bytesSent = 0;
  #startedMs = 0;
  #stateSinceMs = 0;
  #lastActivityMs = 0;
  #connectDeadlineMs = 0;

  constructor(slot: number, services: SessionServices) {
    this.slot = slot;
    this.#services = services;
  }

  get listener(): ListenerState {
    return this.#listener;
  }

  /** Begins with an accepted socket, which the session owns from now on. */
  begin(listener: ListenerState, client: number, nowMs: number): void {
    this.#listener = listener;
    this.#client = client;
    this.#upstream = NONE;
    this.#server = undefined;
    this.#lease = undefined;
    this.#path = "failed";
    this.#clientEnded = false;
    this.#upstreamEnded = false;
    this.#clientEndedFirst = false;
    this.#finSent = false;
    this.#ackSent = false;
    this.#acksSent = 0;
    this.#silenceReported = false;
    this.#sendingFlight = false;
    this.#serversTried = 0;
    this.#bytesSent = 0;
    this.#startedMs = nowMs;
    this.#lastActivityMs = nowMs;
    this.#move("waiting", nowMs);
    this.#deadline(nowMs + listener.share.takeAfterMs);
    this.#receive(OP.clientRecv, client);
  }

  /** One completion. `tag` is what the request was queued with. */
  complete(tag: number, result: number, bufferId: number, nowMs: number): void {
    const op = (tag & 0xf) as Op;
    this.#outstanding -= 1;
    const current = ((tag >>> 4) & 0xf) === this.#epoch || op <= OP.clientSend;
    if (current) this.#pending &= ~(1 << op);
    if (this.state === "closing" || !current) {
      if (bufferId >= 0) this.#services.driver.release(bufferId);
      if (this.state === "closing" && this.#outstanding === 0) this.#end(nowMs);
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
      default: {
        const unreachable: never = op;
        throw new Error(`no such request: ${unreachable}`);
      }
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
        this.#services.log.warn({ slot: this.slot, outstanding: this.#outstanding }, "session does not end");
        break;
      case "free":
        break;
      default: {
        const unreachable: never = this.state;
        throw new Error(`no such state: ${unreachable}`);
      }
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
      this.#services.counters.add(this.#listener.share.route, "bytesUpstream", result);
    }
    if (this.state === "waiting") this.#attach(nowMs);
    else if (this.state === "unproven" || this.state === "open") this.#sendUpstream(nowMs);
    // connecting, judging: what was received waits until there is a connection
  }

  /** Passes on what the client sent: a flight to be sent again, its bytes, then its end. */
  #sendUpstream(nowMs: number): void {
    if (this.#flight !== NONE && this.state === "open") {
      this.#sendingFlight = true;
      this.#send(
        OP.upstreamSend,
        this.#upstream,
        this.#services.flights.address(this.#flight),
        this.#flightLength,
      );
    } else if (this.#upBuffer !== NONE) {
      const address = this.#address(this.#upBuffer);
      if (this.state === "unproven") {
        if (this.#bytesSent === 0 && !this.#ackSent) this.#keepFlight(address);
        else this.#dropFlight(); // a second segment: a reset would no longer prove anything
      }
      this.#send(OP.upstreamSend, this.#upstream, address, this.#upLength);
    } else if (this.#clientEnded) {
      this.#endUpstream(nowMs);
    } else {
      this.#receive(OP.clientRecv, this.#client);
    }
  }

  #keepFlight(address: number): void {
    this.#flight = this.#services.flights.keep(address, this.#upLength);
    this.#flightLength = this.#upLength;
  }

  #dropFlight(): void {
    if (this.#flight === NONE) return;
    this.#services.flights.drop(this.#flight);
    this.#flight = NONE;
  }

  #onUpstreamSent(result: number, nowMs: number): void {
    if (this.#sendingFlight) {
      this.#sendingFlight = false;
      this.#dropFlight();
    } else {
      this.#releaseUp();
    }
    if (this.state === "judging") this.#judge(nowMs);
    else if (result < 0) this.#onUpstreamReset(nowMs);
    else {
      this.#bytesSent += result;
      this.#sendUpstream(nowMs);
    }
  }

  #endUpstream(nowMs: number): void {
    if (this.#finSent) return;
    this.#finSent = true;
    if (this.state === "unproven") this.#dropFlight();
    this.#services.driver.shutdown(this.#upstream, SHUT_WR);
    this.#closeIfDone(nowMs);
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
      this.#services.driver.shutdown(this.#client, SHUT_WR);
      this.#closeIfDone(nowMs);
      return;
    }
    this.#countFirstByte(nowMs);
    this.#downBuffer = bufferId;
    this.#services.counters.add(this.#listener.share.route, "bytesDownstream", result);
    this.#send(OP.clientSend, this.#client, this.#address(bufferId), result);
  }

  #onClientSent(result: number, nowMs: number): void {
    this.#releaseDown();
    if (result < 0) this.#close("reset", nowMs);
    else this.#receive(OP.upstreamRecv, this.#upstream);
  }

  /** The upstream's socket failed. Before anything was heard of it, it may never have existed. */
  #onUpstreamReset(nowMs: number): void {
    if (this.state !== "unproven" || !this.#mayReplay()) {
      this.#close("reset", nowMs, "passive");
      return;
    }
    this.#move("judging", nowMs);
    this.#judge(nowMs);
  }

  /** The upstream exists and has, or may have, our first flight: it must never be sent again. */
  #prove(nowMs: number): void {
    this.#dropFlight();
    if (this.#bytesSent > 0 && !this.#ackSent) this.#server?.taker?.reportFlight(true);
    this.#move("open", nowMs);
    this.#deadline(nowMs + this.#listener.share.idleTimeoutMs);
  }

  #countFirstByte(nowMs: number): void {
    if (this.#startedMs === 0) return;
    this.#services.counters.observeFirstByte(this.#path, (nowMs - this.#startedMs) / 1e3);
    this.#startedMs = 0;
  }

  // --- the upstream connection ------------------------------------------------------------------------------------

  /** Gets an upstream connection: from the pool, else by an ordinary connect. */
  #attach(nowMs: number): void {
    const server = this.#listener.upstream.next();
    if (!server) {
      this.#close("reset", nowMs); // every name of the upstream failed to resolve
      return;
    }
    this.#server = server;
    this.#startedMs = nowMs;
    this.#connectDeadlineMs = nowMs + this.#listener.upstream.connectTimeoutMs;
    const lease = this.#take(server);
    if (!lease) {
      this.#path = "direct";
      this.#connect(nowMs);
      return;
    }
    this.#path = "accelerated";
    this.#lease = lease;
    this.#upstream = lease.fd;
    this.#move("unproven", nowMs);
    this.#receive(OP.upstreamRecv, this.#upstream);
    if (this.#upBuffer !== NONE || this.#clientEnded) this.#sendUpstream(nowMs);
    else this.#acknowledge();
    this.#watchUnproven(nowMs);
  }

  #take(server: Server): Lease | undefined {
    if (!server.taker) return undefined;
    const startedMs = performance.now();
    const lease = server.taker.take();
    if (lease) this.#services.counters.observeMaterialize((performance.now() - startedMs) / 1e3);
    return lease;
  }

  /** Nothing to send: completes the handshake by a raw ACK, so that a server which speaks first can. */
  #acknowledge(): void {
    if (!this.#lease) return;
    this.#ackSent = true;
    this.#server?.taker?.sendAck(this.#lease);
  }

  #watchUnproven(nowMs: number): void {
    const since = nowMs - this.#stateSinceMs;
    if (this.#ackSent && this.#bytesSent === 0) {
      const due = limits.ACK_REPEATS[this.#acksSent];
      if (due === undefined) {
        this.#prove(nowMs);
        return;
      }
      if (since >= due) {
        this.#acksSent += 1;
        this.#acknowledge();
      }
      const next = limits.ACK_REPEATS[this.#acksSent] ?? limits.ACK_REPEATS[this.#acksSent - 1]! * 2;
      this.#deadline(this.#stateSinceMs + next);
      return;
    }
    if (since < limits.FLIGHT_SILENCE) {
      this.#deadline(this.#stateSinceMs + limits.FLIGHT_SILENCE);
      return;
    }
    const info = this.#upstreamInfo();
    if (info && info.bytesAcked > 0) {
      this.#prove(nowMs);
    } else if (since >= this.#flightTimeoutMs()) {
      this.#path = "failed";
      this.#close("reset", nowMs);
    } else {
      if (!this.#silenceReported) this.#server?.taker?.reportFlight(false);
      this.#silenceReported = true;
      this.#deadline(this.#stateSinceMs + this.#flightTimeoutMs());
    }
  }

  /** A half-open the network forgot swallows the flight: bounded like a connect that is never answered. */
  #flightTimeoutMs(): number {
    return Math.max(this.#listener.upstream.connectTimeoutMs, limits.FLIGHT_SILENCE + 100);
  }

  /** DESIGN section 6: what must hold before the reset's own evidence is even looked at. */
  #mayReplay(): boolean {
    if (this.#flight === NONE || this.#ackSent || this.#finSent) return false;
    const info = this.#upstreamInfo();
    return (
      info !== undefined &&
      info.segsOut === 1 &&
      info.totalRetrans === 0 &&
      info.bytesAcked === 0 &&
      info.bytesReceived === 0
    );
  }

  #judge(nowMs: number): void {
    if (this.#isPending(OP.upstreamSend)) return; // it fails too and comes back here
    const verdict = this.#lease && this.#server?.taker?.verdict(this.#lease);
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
    this.#server?.taker?.reportReplay();
    this.#services.log.debug({ server: this.#server?.name }, "replaying a first flight");
    this.#dropUpstream("passive");
    this.#bytesSent = 0;
    this.#connectDeadlineMs = nowMs + this.#listener.upstream.connectTimeoutMs;
    this.#connect(nowMs);
  }

  #connect(nowMs: number): void {
    const server = this.#server!;
    if (this.state !== "connecting") this.#move("connecting", nowMs);
    this.#serversTried += 1;
    try {
      this.#upstream = newTcpSocket(server.family, this.#services.socketFlags).release();
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#services.log.warn({ err: error }, "no socket for an upstream connection");
      this.#close("reset", nowMs);
      return;
    }
    // Each server gets its share of the time, so that a silent one does not use up all of it.
    const { size } = this.#listener.upstream;
    const share = this.#listener.upstream.connectTimeoutMs / Math.max(1, size);
    this.#deadline(Math.min(this.#connectDeadlineMs, nowMs + share));
    this.#start(OP.connect);
    const { driver, sockaddr } = this.#services;
    sockaddr.bytes.set(server.sockaddr);
    const { length } = server.sockaddr;
    driver.connect(this.#upstream, sockaddr.address, length, this.slot, this.#tag(OP.connect));
  }

  #onConnected(result: number, nowMs: number): void {
    if (result < 0) {
      this.#services.log.debug({ server: this.#server?.name, errno: -result }, "connect failed");
      this.#tryNextServer(nowMs);
      return;
    }
    this.#move("open", nowMs);
    this.#deadline(nowMs + this.#listener.share.idleTimeoutMs);
    this.#receive(OP.upstreamRecv, this.#upstream);
    const waiting = this.#upBuffer !== NONE || this.#flight !== NONE || this.#clientEnded;
    if (waiting || !this.#isPending(OP.clientRecv)) this.#sendUpstream(nowMs);
  }

  #tryNextServer(nowMs: number): void {
    this.#dropUpstream("passive");
    const { upstream } = this.#listener;
    if (this.#serversTried >= upstream.size || nowMs >= this.#connectDeadlineMs) {
      this.#close("reset", nowMs);
      return;
    }
    this.#server = upstream.after(this.#server!);
    this.#connect(nowMs);
  }

  /** Lets go of the upstream socket; late completions of its requests are told by their epoch. */
  #dropUpstream(ending: Ending): void {
    const { driver } = this.#services;
    for (const op of OPS) {
      if (op >= OP.upstreamRecv && this.#isPending(op)) driver.cancel(this.slot, this.#tag(op));
    }
    if (this.#upstream !== NONE) driver.close(this.#upstream);
    this.#upstream = NONE;
    this.#pending &= (1 << OP.clientRecv) | (1 << OP.clientSend);
    this.#epoch = (this.#epoch + 1) & 0xf;
    if (this.#lease) this.#server?.taker?.finish(this.#lease, ending, this.#bytesSent);
    this.#lease = undefined;
  }

  #upstreamInfo(): TcpInfo | undefined {
    try {
      return getTcpInfo(this.#upstream);
    } catch {
      return undefined; // without it nothing is proven
    }
  }

  // --- the end ----------------------------------------------------------------------------------------------------

  #watchIdle(nowMs: number): void {
    const idleUntilMs = this.#lastActivityMs + this.#listener.share.idleTimeoutMs;
    if (nowMs >= idleUntilMs) this.#close("fin", nowMs);
    else this.#deadline(idleUntilMs);
  }

  #closeIfDone(nowMs: number): void {
    if (this.#finSent && this.#upstreamEnded) this.#close("fin", nowMs);
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
    counters.countPath(this.#listener.share.route, reached ? this.#path : "failed");
    this.#move("closing", nowMs);
    this.#deadline(nowMs + limits.CLOSE_LIMIT);
    for (const op of OPS) {
      if (op <= OP.clientSend && this.#isPending(op)) driver.cancel(this.slot, this.#tag(op));
    }
    if (how === "reset") {
      setLingerZero(this.#client);
      if (this.#upstream !== NONE) setLingerZero(this.#upstream);
    }
    this.#dropUpstream(ending);
    driver.close(this.#client);
    this.#client = NONE;
    this.#dropFlight();
    if (this.#outstanding === 0) this.#end(nowMs);
  }

  /** Who closed first decides whose TIME_WAIT it is. */
  #finEnding(): Ending {
    return this.#upstreamEnded && !this.#clientEndedFirst ? "passive" : "active";
  }

  #end(nowMs: number): void {
    if (this.#upBuffer !== NONE) this.#releaseUp();
    if (this.#downBuffer !== NONE) this.#releaseDown();
    this.#deadline(Number.POSITIVE_INFINITY);
    this.#move("free", nowMs);
    this.#services.ended(this);
  }

  // --- small parts ------------------------------------------------------------------------------------------------

  #move(to: SessionState, nowMs: number): void {
    if (!(MOVES[this.state] as readonly SessionState[]).includes(to)) {
      throw new Error(`session: no move ${this.state} → ${to}`);
    }
    this.state = to;
    this.#stateSinceMs = nowMs;
  }

  #deadline(deadlineMs: number): void {
    this.deadlineMs = deadlineMs;
    this.#services.watch(deadlineMs);
  }

  #tag(op: Op): number {
    // The client's requests outlive an upstream socket, so they carry no epoch.
    return op <= OP.clientSend ? op : (this.#epoch << 4) | op;
  }

  #start(op: Op): void {
    this.#pending |= 1 << op;
    this.#outstanding += 1;
  }

  #isPending(op: Op): boolean {
    return (this.#pending & (1 << op)) !== 0;
  }

  #receive(op: Op, fd: number): void {
    this.#start(op);
    this.#services.driver.recv(fd, this.slot, this.#tag(op));
  }

  #send(op: Op, fd: number, address: number, length: number): void {
    this.#start(op);
    this.#services.driver.send(fd, address, length, this.slot, this.#tag(op));
  }

  #address(bufferId: number): number {
    const { memory, size } = this.#services.driver.buffers;
    return memory.address + bufferId * size;
  }

  #releaseUp(): void {
    this.#services.driver.release(this.#upBuffer);
    this.#upBuffer = NONE;
    this.#upLength = 0;
  }

  #releaseDown(): void {
    this.#services.driver.release(this.#downBuffer);
    this.#downBuffer = NONE;
  }
}
