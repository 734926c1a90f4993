/**
 * A session as data, between the engine that gave it up and the one that goes on with it: in another worker, another
 * process, or another host when its two sockets travel as images. Plain values and byte arrays only. Times are
 * relative to when the record was made, ms, since clocks differ between hosts.
 */
import type { LeaseRecord } from "../../pool/taker.ts";
import type { ConnectionPath } from "../status.ts";

/** The states a session can leave in. The others end, or become one of these, within VERDICT_WAIT. */
export const PORTABLE_STATES = ["waiting", "connecting", "unproven", "open"] as const;
export type PortableState = (typeof PORTABLE_STATES)[number];

/** What is known of an upstream connection made of a half-open (upstream-proof.ts). */
export interface ProofRecord {
  /** The first flight, while it may have to be sent again. */
  readonly flight: Uint8Array | undefined;
  /** Payload the upstream socket took. */
  readonly bytesSent: number;
  readonly ackSent: boolean;
  readonly acksSent: number;
  readonly silenceReported: boolean;
}

export interface SessionRecord {
  readonly state: PortableState;
  readonly listener: string;
  readonly upstream: string;
  /** Name of the server in use, from connecting on. */
  readonly server: string | undefined;
  /** The half-open that the upstream socket was made of, if it was. */
  readonly lease: LeaseRecord | undefined;
  readonly path: ConnectionPath;
  readonly proof: ProofRecord;
  /** Received from the client and not yet sent to the upstream; and the other way. */
  readonly up: Uint8Array;
  readonly down: Uint8Array;
  readonly clientEnded: boolean;
  readonly upstreamEnded: boolean;
  readonly clientEndedFirst: boolean;
  /** The client's end was passed on. The upstream's always is when upstreamEnded. */
  readonly finSent: boolean;
  readonly serversTried: number;
  /** Since it went to the upstream; undefined once the first byte came back. */
  readonly firstByteAgeMs: number | undefined;
  readonly stateAgeMs: number;
  /** Since something was last received or sent. */
  readonly idleMs: number;
  /** Until an ordinary connect is given up. */
  readonly connectLeftMs: number;
}

/** A session's sockets, each owned by whoever has the record. A waiting or connecting session has no upstream. */
export interface SessionSockets {
  readonly client: number;
  readonly upstream: number | undefined;
}

export interface MovingSession {
  readonly record: SessionRecord;
  readonly sockets: SessionSockets;
}
