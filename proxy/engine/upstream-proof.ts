/**
 * Whether a connection made of a half-open exists at the upstream, and what may be done until that is known: the
 * first flight is kept for a replay, the raw ACK of a client that says nothing is repeated, silence is noticed.
 * DESIGN section 6 has the rules; session.ts asks and acts.
 */
import { isAcknowledged, sentOneSegmentOnly } from "../../pool/evidence.ts";
import { FirstFlight } from "./first-flight.ts";
import type { Flights } from "./flights.ts";
import * as limits from "./limits.ts";
import type { ProofRecord } from "./session-record.ts";
import type { UpstreamSocket } from "./upstream-socket.ts";

/** What a look at an unproven connection says: it exists, it is given up, or when to look again, ms of its age. */
export type Look = "proven" | "lost" | number;

const NOTHING: ProofRecord = {
  flight: undefined,
  bytesSent: 0,
  ackSent: false,
  acksSent: 0,
  silenceReported: false,
};

export class UpstreamProof {
  /** Kept while it may have to be sent again. */
  readonly flight: FirstFlight;
  readonly #upstream: UpstreamSocket;
  #bytesSent = 0;
  #ackSent = false;
  #acksSent = 0;
  #silenceReported = false;

  constructor(flights: Flights, upstream: UpstreamSocket) {
    this.flight = new FirstFlight(flights);
    this.#upstream = upstream;
  }

  /** Payload the upstream socket took so far. */
  get bytesSent(): number {
    return this.#bytesSent;
  }

  /** Begins with what another session knew, or with nothing. */
  begin(record: ProofRecord = NOTHING): void {
    this.#bytesSent = record.bytesSent;
    this.#ackSent = record.ackSent;
    this.#acksSent = record.acksSent;
    this.#silenceReported = record.silenceReported;
    if (record.flight) this.flight.put(record.flight);
  }

  record(): ProofRecord {
    return {
      flight: this.flight.isKept ? this.flight.copy() : undefined,
      bytesSent: this.#bytesSent,
      ackSent: this.#ackSent,
      acksSent: this.#acksSent,
      silenceReported: this.#silenceReported,
    };
  }

  /** The bytes are about to be sent on an unproven connection. */
  onSend(address: number, length: number): void {
    if (this.#bytesSent === 0 && !this.#ackSent) this.flight.keep(address, length);
    else this.flight.drop(); // a second segment: a reset would no longer prove anything
  }

  /**
   * The socket took `bytes` of the client's. Not all (`isWhole` false): what is left goes out as a second segment, or
   * nothing did and the next send is the first.
   */
  onSent(bytes: number, isWhole: boolean): void {
    this.#bytesSent += bytes;
    if (!isWhole) this.flight.drop();
  }

  /** `bytes` of the flight went out once more, on an ordinary connection. */
  onResent(bytes: number): void {
    this.#bytesSent += bytes;
    this.flight.advance(bytes);
  }

  /** What is left of a flight that is to be sent again, which is no longer kept. */
  takeFlight(): Uint8Array | undefined {
    const left = this.flight.isKept ? this.flight.copy() : undefined;
    this.flight.drop();
    return left;
  }

  /** Nothing to send yet, but the server may speak first. What the client says after this is never replayed. */
  acknowledge(): void {
    this.#ackSent = true;
    this.#upstream.acknowledge();
  }

  /** The upstream exists and has, or may have, the first flight: it must never be sent again. */
  prove(): void {
    this.flight.drop();
    if (this.#bytesSent > 0 && !this.#ackSent) this.#upstream.reportFlight(true);
  }

  /** Looks at a connection unproven for `ageMs`. Without an answer it is given up at `timeoutMs`. */
  look(ageMs: number, timeoutMs: number): Look {
    if (this.#ackSent && this.#bytesSent === 0) return this.#repeatAck(ageMs);
    if (ageMs < limits.FLIGHT_SILENCE) return limits.FLIGHT_SILENCE;
    if (isAcknowledged(this.#upstream.fd)) return "proven";
    if (ageMs >= timeoutMs) return "lost";
    if (!this.#silenceReported) this.#upstream.reportFlight(false);
    this.#silenceReported = true;
    return timeoutMs;
  }

  /**
   * What must hold before the reset itself is looked at. A client that said nothing risks nothing, so that after a
   * raw ACK none of its bytes may be under way (`isSilent`).
   */
  mayReplay(isSilent: boolean): boolean {
    if (this.#ackSent) return this.#bytesSent === 0 && isSilent;
    return this.flight.isKept && sentOneSegmentOnly(this.#upstream.fd);
  }

  /** The flight goes out once more, on another socket. */
  replay(): void {
    this.#upstream.reportReplay();
    this.#bytesSent = 0;
  }

  #repeatAck(ageMs: number): Look {
    const due = limits.ACK_REPEATS[this.#acksSent];
    if (due === undefined) return "proven";
    if (ageMs >= due) {
      this.#acksSent += 1;
      this.acknowledge();
    }
    return limits.ACK_REPEATS[this.#acksSent] ?? limits.ACK_REPEATS[this.#acksSent - 1]! * 2;
  }
}
