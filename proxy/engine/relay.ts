/**
 * The bytes of a session, both directions, and their ends. What is under way follows from what is held: goOnUp() and
 * goOnDown() queue the one thing each direction has to do next, so that a session whose requests were all cancelled
 * goes on by calling both.
 *
 *   receive ──bytes──▶ held ──send──▶ (all gone) ──▶ receive      cancelled: what was held stays held
 *      └──end──▶ passed on, once nothing is held before it
 */
import { ECANCELED } from "../../native/abi/errno.ts";
import { SHUT_WR } from "../../native/abi/socket.ts";
import type { Ending } from "../../pool/entry-table.ts";
import { COUNT } from "./counters.ts";
import type { SessionServices } from "./engine.ts";
import { HeldBytes } from "./held-bytes.ts";
import type { SessionRecord } from "./session-record.ts";
import { OP, type Op, SessionRequests } from "./session-requests.ts";
import type { SessionState } from "./session-state.ts";
import { UpstreamProof } from "./upstream-proof.ts";
import { UpstreamSocket } from "./upstream-socket.ts";

const NONE = -1;

/** What the relay tells its session, which owns the states. */
export interface RelayOwner {
  readonly state: SessionState;
  /** Something of the client's came, or its end, before there was a connection. */
  onClientFirst(nowMs: number): void;
  onClientFailed(nowMs: number): void;
  /** The upstream sent this many bytes, or its end (0). */
  onUpstreamHeard(bytes: number, nowMs: number): void;
  onUpstreamFailed(nowMs: number): void;
  /** Both sides have said all. */
  onBothEnded(nowMs: number): void;
}

/** The part of a session's record that is the relay's. */
export type RelayRecord = Pick<
  SessionRecord,
  "proof" | "up" | "down" | "clientEnded" | "upstreamEnded" | "clientEndedFirst" | "finSent"
>;

export class Relay {
  readonly requests: SessionRequests;
  readonly upstream: UpstreamSocket;
  readonly proof: UpstreamProof;
  client = NONE;
  /** Passed on since this engine has the session. */
  bytesUpstream = 0;
  bytesDownstream = 0;
  /** Nothing new is begun: the session is about to leave. */
  isSuspended = false;
  readonly #owner: RelayOwner;
  readonly #services: SessionServices;
  /** What goes to the upstream before anything of the client's. */
  readonly #preface: HeldBytes;
  readonly #up: HeldBytes;
  readonly #down: HeldBytes;
  /** Where the send to the upstream that is under way takes its bytes from. */
  #sending: HeldBytes;
  /** What it is counted under, whatever becomes of its listener meanwhile. */
  route = 0;
  #sendingFlight = false;
  #clientEnded = false;
  #upstreamEnded = false;
  #clientEndedFirst = false;
  #finSent = false;

  constructor(slot: number, services: SessionServices, owner: RelayOwner) {
    this.#services = services;
    this.#owner = owner;
    this.requests = new SessionRequests(services.driver, slot);
    this.upstream = new UpstreamSocket(services);
    this.proof = new UpstreamProof(services.flights, this.upstream);
    this.#preface = new HeldBytes(services.driver);
    this.#up = new HeldBytes(services.driver);
    this.#sending = this.#up;
    this.#down = new HeldBytes(services.driver);
  }

  /** Starts with a client's socket and nothing else; until clear() it is a session of `route`. */
  begin(client: number, route: number): void {
    this.client = client;
    this.route = route;
    this.#services.counters.add(route, COUNT.active, 1);
    this.bytesUpstream = 0;
    this.bytesDownstream = 0;
    this.isSuspended = false;
    this.#sendingFlight = false;
    this.#clientEnded = false;
    this.#upstreamEnded = false;
    this.#clientEndedFirst = false;
    this.#finSent = false;
    this.proof.begin();
  }

  /** The same with what another session held. */
  adopt(client: number, route: number, record: RelayRecord): void {
    this.begin(client, route);
    this.#clientEnded = record.clientEnded;
    this.#upstreamEnded = record.upstreamEnded;
    this.#clientEndedFirst = record.clientEndedFirst;
    this.#finSent = record.finSent;
    this.#up.put(record.up);
    this.#down.put(record.down);
    this.proof.begin(record.proof);
  }

  record(): RelayRecord {
    // Past its proof a flight is only bytes to be sent, before all others.
    const flight = this.#owner.state === "unproven" ? undefined : this.proof.takeFlight();
    const held = [this.#preface.copy(), this.#up.copy()];
    return {
      proof: this.proof.record(),
      up: Buffer.concat(flight ? [flight, ...held] : held),
      down: this.#down.copy(),
      clientEnded: this.#clientEnded,
      upstreamEnded: this.#upstreamEnded,
      clientEndedFirst: this.#clientEndedFirst,
      finSent: this.#finSent,
    };
  }

  /** The client has sent something that waits, or its end. */
  get hasClientSpoken(): boolean {
    return !this.#preface.isEmpty || !this.#up.isEmpty || this.#clientEnded;
  }

  get hasClientEnded(): boolean {
    return this.#clientEnded;
  }

  /** What the client sent and nobody has yet; a view, until the next skip() or request. */
  get unsent(): Uint8Array {
    return this.#up.view();
  }

  /** The first `count` bytes of the client's go nowhere. */
  skip(count: number): void {
    if (count > 0) this.#up.drop(count);
  }

  /** Has `bytes` go to the upstream before anything of the client's: with its first bytes if they are there. */
  prepend(bytes: Uint8Array): void {
    if (this.#up.isEmpty) {
      this.#preface.put(bytes); // a receive may be under way, whose bytes are held beside these
      return;
    }
    const all = Buffer.concat([bytes, this.#up.view()]);
    this.#up.clear();
    this.#up.put(all);
  }

  /** DESIGN section 6: what must hold of us before a reset is looked at. */
  get mayReplay(): boolean {
    return !this.#finSent && this.proof.mayReplay(this.#up.isEmpty);
  }

  /** Who closed first decides whose TIME_WAIT it is. */
  get finEnding(): Ending {
    return this.#upstreamEnded && !this.#clientEndedFirst ? "passive" : "active";
  }

  /** Gives back what is held. Only when no request is under way: the kernel reads from it until then. */
  clear(): void {
    this.proof.flight.drop();
    this.#preface.clear();
    this.#up.clear();
    this.#down.clear();
    this.#services.counters.add(this.route, COUNT.active, -1);
  }

  /** Lets go of the upstream socket; late completions of its requests are told by their epoch. */
  dropUpstream(ending: Ending): void {
    this.requests.abandonUpstream();
    this.upstream.drop(this.#services.driver, ending, this.proof.bytesSent);
  }

  /** One completion of a receive or a send. */
  complete(op: Op, result: number, bufferId: number, more: boolean, nowMs: number): void {
    if (op === OP.clientRecv) this.#onClientReceived(result, bufferId, nowMs);
    else if (op === OP.upstreamSend) this.#onUpstreamSent(result, nowMs);
    else if (op === OP.upstreamRecv) this.#onUpstreamReceived(result, bufferId, more, nowMs);
    else this.#onClientSent(result, nowMs);
  }

  // --- from the client ----------------------------------------------------------------------------------------

  /** Asks for more of the client's, unless a request begun before a replay still waits. */
  listenToClient(): void {
    if (!this.requests.isPending(OP.clientRecv))
      this.requests.receive(OP.clientRecv, this.client, this.#up.wasFull);
  }

  #onClientReceived(result: number, bufferId: number, nowMs: number): void {
    if (result > 0) {
      this.#up.hold(bufferId, result);
      this.#services.counters.add(this.route, COUNT.bytesUpstream, result);
      this.bytesUpstream += result;
    } else if (result === 0) {
      this.#clientEnded = true;
      if (!this.#upstreamEnded) this.#clientEndedFirst = true;
    } else if (result !== -ECANCELED) {
      this.#owner.onClientFailed(nowMs);
      return;
    }
    if (this.#owner.state === "waiting") this.#owner.onClientFirst(nowMs);
    else this.goOnUp(nowMs);
  }

  /** Passes on what the client sent: a flight to be sent again, its bytes, then its end; else asks for more. */
  goOnUp(nowMs: number): void {
    const { state } = this.#owner;
    if (this.isSuspended || (state !== "open" && state !== "unproven")) return; // it waits for a connection
    if (this.requests.isPending(OP.upstreamSend)) return; // its completion comes back here
    const { flight } = this.proof;
    const next = this.#preface.isEmpty ? this.#up : this.#preface;
    if (flight.isKept && state === "open") {
      this.#sendingFlight = true;
      this.requests.send(OP.upstreamSend, this.upstream.fd, flight.address, flight.length);
    } else if (!next.isEmpty) {
      const { address, length } = next;
      this.#sending = next;
      if (state === "unproven") this.proof.onSend(address, length);
      this.requests.send(OP.upstreamSend, this.upstream.fd, address, length);
    } else if (!this.#clientEnded) {
      this.listenToClient();
    } else if (!this.#finSent) {
      this.#finSent = true;
      if (state === "unproven") this.proof.flight.drop();
      this.#passEnd(this.upstream.fd, nowMs);
    }
  }

  #onUpstreamSent(result: number, nowMs: number): void {
    const isFailure = result < 0 && result !== -ECANCELED;
    const sent = Math.max(0, result);
    if (this.#sendingFlight) {
      this.#sendingFlight = false;
      this.proof.onResent(sent);
    } else if (!isFailure) {
      this.proof.onSent(sent, sent === this.#sending.length);
      this.#sending.drop(sent);
    } else if (this.proof.flight.isKept) {
      this.#sending.clear(); // the flight has them
    }
    if (isFailure || this.#owner.state === "judging") this.#owner.onUpstreamFailed(nowMs);
    else this.goOnUp(nowMs);
  }

  // --- from the upstream ----------------------------------------------------------------------------------------

  #onUpstreamReceived(result: number, bufferId: number, more: boolean, nowMs: number): void {
    if (result >= 0) this.#owner.onUpstreamHeard(result, nowMs);
    if (result > 0) {
      this.#down.hold(bufferId, result, more);
      this.#services.counters.add(this.route, COUNT.bytesDownstream, result);
      this.bytesDownstream += result;
    } else if (result === 0) {
      this.#upstreamEnded = true;
      this.#passEnd(this.client, nowMs);
      return;
    } else if (result !== -ECANCELED) {
      this.#owner.onUpstreamFailed(nowMs);
      return;
    }
    this.goOnDown();
  }

  /** Passes on what the upstream sent, or asks for more. */
  goOnDown(): void {
    const { state } = this.#owner;
    if (this.isSuspended || (state !== "open" && state !== "unproven")) return;
    const down = this.#down;
    if (!down.isEmpty)
      this.requests.send(OP.clientSend, this.client, down.address, down.length, down.isFollowed);
    else if (!this.#upstreamEnded) this.requests.receive(OP.upstreamRecv, this.upstream.fd, down.wasFull);
  }

  #onClientSent(result: number, nowMs: number): void {
    if (result < 0 && result !== -ECANCELED) {
      this.#owner.onClientFailed(nowMs);
      return;
    }
    this.#down.drop(Math.max(0, result));
    this.goOnDown();
  }

  /** Sends a FIN to one side; when it is the second one, the session does so by closing both. */
  #passEnd(fd: number, nowMs: number): void {
    if (this.#finSent && this.#upstreamEnded) this.#owner.onBothEnded(nowMs);
    else this.#services.driver.shutdown(fd, SHUT_WR);
  }
}
