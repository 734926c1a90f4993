import type { Destination } from "./destination.ts";
import type { Port } from "./reservations.ts";

/** What only the keeper knows of an entry. Times are ms of clock.nowMs(). */
export interface LiveEntry {
  readonly index: number;
  readonly destination: Destination;
  readonly port: Port;
  readonly openedAtMs: number;
  slot: number;
  sentAtMs: number;
  attempts: number;
  resetsSent: number;
  /** Opened with one SYN, because it will be taken soon. */
  isForNow: boolean;
}
