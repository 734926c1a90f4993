/** What one process leaves to the next, from both sides. */
import type { Listener } from "../../config/schema.ts";
import type { Endpoint } from "../../native/address.ts";
import type { Fd } from "../../native/fd.ts";
import type { KeeperRecord } from "../../pool/handover.ts";
import type { KeeperHandle } from "../../pool/keeper-handle.ts";
import type { MovingSession } from "../engine/session-record.ts";
import type { Traffic } from "../traffic.ts";
import type { NamedPool } from "../upstreams.ts";

/** What a process that goes leaves to one that starts (successor.ts), on another host perhaps (../move/target.ts). */
export interface Heritage {
  /** The addresses of listeners come to this host later. */
  readonly isAhead: boolean;
  readonly secret: Uint8Array | undefined;
  /** The sockets of the listener that had this name and bind there, the taker's from now on. */
  takeSockets(listener: Listener): readonly Fd[] | undefined;
  /** Everything is ready to accept: resolves when it shall, with the half-opens. */
  ready(): Promise<KeeperRecord>;
  /** The runtime accepts: goes on with the sessions. */
  takeOver(estate: Estate): Promise<void>;
}

/** What a process that goes gives away (predecessor.ts): all a runtime has. */
export interface Estate {
  readonly listeners: readonly {
    readonly name: string;
    readonly bind: Endpoint;
    readonly sockets: readonly number[];
  }[];
  readonly keeper: KeeperHandle | undefined;
  readonly traffic: Traffic;
  readonly pools: readonly NamedPool[];
  /** No worker accepts any more; what they accepted is theirs. */
  stopAccepting(): Promise<void>;
  acceptAgain(): Promise<void>;
  /** Takes up to `max` sessions out of the workers, whose sockets are the caller's; `left` are still there. */
  depart(max: number): Promise<{ readonly sessions: readonly MovingSession[]; readonly left: number }>;
  /** Goes on with sessions, whose sockets are the runtime's from now on. */
  adopt(sessions: readonly MovingSession[]): void;
}
