/** What the main thread and an engine worker tell each other. Everything is structured-cloneable. */
import type { Config, Listener, Upstream } from "../../config/schema.ts";
import type { Endpoint } from "../../native/address.ts";
import type { GateShare } from "../../pool/gate.ts";
import type { KeeperShare } from "../../pool/keeper-handle.ts";
import type { LogMessage } from "../../pool/logger.ts";
import type { PoolShare } from "../../pool/pool-block.ts";
import type { LineShare } from "../balance/line.ts";
import type { Policy } from "../balance/policies.ts";
import type { HttpShare, HttpUpstreamShare } from "../http/messages.ts";
import type { MovingSession } from "./session-record.ts";
import type { SessionReport } from "./session-report.ts";

export interface WorkerData {
  /** Its number among the workers. */
  readonly index: number;
  /** The gate of all sessions; a worker writes its eventfd into the list that every gate wakes by. */
  readonly descriptors: GateShare;
  readonly counters: SharedArrayBuffer;
  /** Absent: no acceleration. */
  readonly keeper: KeeperShare | undefined;
  readonly logLevel: string;
  /** Somebody wants to know of sessions that ended. */
  readonly isTraced: boolean;
  readonly driver: Config["driver"];
  /** SO_MARK of connections to upstreams. */
  readonly mark: number | undefined;
  /** Where workers note their connections to learned destinations (own-connections.ts). */
  readonly ownConnections: SharedArrayBuffer | undefined;
}

/** A listener as a worker needs it. `fd` stays the main thread's. */
export interface ListenerShare {
  readonly id: number;
  readonly name: string;
  readonly fd: number;
  readonly upstream: string;
  readonly takeAfterMs: number;
  readonly idleTimeoutMs: number;
  readonly maxConnections: number;
  readonly proxyProtocol: Listener["proxyProtocol"];
  /** Of a transparent one: where it listens, and which destinations are accelerated. */
  readonly transparent?: TransparentShare | undefined;
  /** Where its sessions are counted, one per pair of listener and upstream. */
  readonly route: number;
  /** The gate of its sessions in all workers. */
  readonly gate: GateShare;
  /** Only of http listeners, which are for http workers. */
  readonly http?: HttpShare;
}

export interface TransparentShare extends Pick<Listener, "allow" | "deny"> {
  readonly bind: Endpoint;
}

export interface ServerShare {
  readonly endpoint: Endpoint;
  readonly weight: number;
  readonly maxConnections: number;
  /** What the configuration calls it, if that is a name. */
  readonly hostName?: string | undefined;
  readonly pool: PoolShare | undefined;
  /** Of ServerState. */
  readonly state: SharedArrayBuffer;
}

export interface UpstreamShare {
  readonly name: string;
  readonly policy: Policy;
  readonly connectTimeoutMs: number;
  readonly maxQueue: number;
  readonly line: LineShare;
  readonly proxyProtocol: Upstream["proxyProtocol"];
  readonly servers: readonly ServerShare[];
  /** Connections come from their clients' addresses, and these are the pools of clients; absent: from this host's. */
  readonly clientPools?: readonly PoolShare[] | undefined;
  /** The servers are those that clients of transparent listeners asked for, as far as they have pools. */
  readonly isLearned?: boolean;
  readonly http: HttpUpstreamShare;
}

export type ToWorker =
  | { readonly kind: "upstream"; readonly upstream: UpstreamShare }
  | { readonly kind: "dropUpstream"; readonly name: string }
  | { readonly kind: "listen"; readonly listener: ListenerShare }
  /** `isLast`: nobody else accepts on its socket any more. */
  | { readonly kind: "unlisten"; readonly id: number; readonly isLast: boolean }
  /** Have up to `max` sessions leave; `departed` follows. */
  | { readonly kind: "depart"; readonly max: number }
  /** Go on with sessions, whose sockets are the worker's from now on. */
  | { readonly kind: "adopt"; readonly listener: ListenerShare; readonly sessions: readonly MovingSession[] }
  /** `pong` follows, from a thread that works. */
  | { readonly kind: "ping" }
  /** Stop accepting; `drained` follows when the last session ended. */
  | { readonly kind: "drain" }
  /** End every session now. */
  | { readonly kind: "abort" };

/** A destination, and the address that it is to see where that is the client's. */
export interface Visit {
  readonly destination: Endpoint;
  readonly client?: string | undefined;
}

export type FromWorker =
  | {
      readonly kind: "started";
      readonly wakeFd: number;
      readonly driver: string;
      readonly fallback: string | undefined;
    }
  | { readonly kind: "unavailable"; readonly message: string }
  | { readonly kind: "listening"; readonly id: number }
  | { readonly kind: "unlistened"; readonly id: number }
  /** Sessions that left, whose sockets are the receiver's from now on, and how many are still there. */
  | { readonly kind: "departed"; readonly sessions: readonly MovingSession[]; readonly left: number }
  | { readonly kind: "pong" }
  | { readonly kind: "drained" }
  /** A session ended; only where sessions are traced, and then of no more than TRACED_PER_SECOND_MAX. */
  | { readonly kind: "session"; readonly report: SessionReport }
  /** A client asked for a destination that has no pool, or not from the client's own address. */
  | ({ readonly kind: "visited"; readonly upstream: string } & Visit)
  | LogMessage;
