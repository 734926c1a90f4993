import { getTcpInfo } from "../../native/sockopt.ts";
import type { Flights } from "./flights.ts";

const NONE = -1;

/** A session's first flight, kept for as long as it may have to be sent again. */
export class FirstFlight {
  readonly #flights: Flights;
  #slot = NONE;
  #length = 0;

  constructor(flights: Flights) {
    this.#flights = flights;
  }

  get isKept(): boolean {
    return this.#slot !== NONE;
  }

  get address(): number {
    return this.#flights.address(this.#slot);
  }

  get length(): number {
    return this.#length;
  }

  /** Copies it; does nothing when it is too long to be one segment. */
  keep(address: number, length: number): void {
    this.#slot = this.#flights.keep(address, length);
    this.#length = length;
  }

  drop(): void {
    if (this.#slot === NONE) return;
    this.#flights.drop(this.#slot);
    this.#slot = NONE;
  }
}

/**
 * What a failed socket itself must say before a reset's own evidence is looked at: one segment left it, once,
 * and nothing came back (DESIGN section 6). A second segment or a retransmission may have met a connection
 * that existed.
 */
export function sentOneSegmentOnly(fd: number): boolean {
  try {
    const { segsOut, totalRetrans, bytesAcked, bytesReceived } = getTcpInfo(fd);
    return segsOut === 1 && totalRetrans === 0 && bytesAcked === 0 && bytesReceived === 0;
  } catch {
    return false; // without TCP_INFO nothing is proven
  }
}

/** True when the peer has acknowledged something. */
export function isAcknowledged(fd: number): boolean {
  try {
    return getTcpInfo(fd).bytesAcked > 0;
  } catch {
    return false;
  }
}
