/** An upstream as one worker uses it: its servers and their pools. */
import { SO_MARK, SOL_SOCKET } from "../../native/abi/socket.ts";
import { type Endpoint, encodeSockaddr, formatEndpoint, parseAddress } from "../../native/address.ts";
import type { IntOption } from "../../native/repair/image.ts";
import { warmUpRestore } from "../../native/repair/restore.ts";
import { EntryTable } from "../../pool/entry-table.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import type { KeeperShare } from "../../pool/keeper-handle.ts";
import type { Logger } from "../../pool/logger.ts";
import { KeeperSignal } from "../../pool/signal.ts";
import { Taker } from "../../pool/taker.ts";
import { type BalancedServer, Balancer } from "../balance/balancer.ts";
import type { Line } from "../balance/line.ts";
import { ServerState } from "../balance/server-state.ts";
import type { ListenerState } from "./engine.ts";
import type { ServerShare, UpstreamShare } from "./messages.ts";

export interface Server extends BalancedServer {
  readonly endpoint: Endpoint;
  /** What the configuration calls it, if that is a name. */
  readonly hostName: string | undefined;
  readonly family: 4 | 6;
  readonly sockaddr: Uint8Array;
  readonly taker: Taker | undefined;
}

/** A client that a server is wanted for. */
export interface ChoosingClient {
  readonly socket: number;
  readonly listener: ListenerState;
}

/** What a session has a server from; Balancer tells of each step. */
export interface ServerChoice
  extends Pick<
    Balancer<Server>,
    "name" | "line" | "size" | "named" | "admit" | "reached" | "failed" | "release"
  > {
  readonly connectTimeoutMs: number;
  /** How many may stand in line. */
  readonly maxQueue: number;
  readonly proxyProtocol: UpstreamShare["proxyProtocol"];
  choose(
    nowMs: number,
    tried: readonly Server[],
    isFirst: boolean,
    client: ChoosingClient,
  ): Server | "full" | undefined;
}

/** What makes Takers on this thread; undefined where nothing is accelerated. */
export class TakerFactory {
  readonly #shared: ConstructorParameters<typeof Taker>[1];
  readonly #options: readonly IntOption[];
  readonly #socketFlags: number;

  constructor(keeper: KeeperShare, options: readonly IntOption[], socketFlags: number) {
    const table = new EntryTable(keeper.table);
    const signal = new KeeperSignal(keeper.signal, keeper.wakeFd);
    const { mark } = keeper;
    this.#shared = { table, signal, wire: new HandshakeWire(table, mark) };
    const marking = mark === undefined ? [] : [{ level: SOL_SOCKET, name: SO_MARK, value: mark }];
    this.#options = [...options, ...marking];
    this.#socketFlags = socketFlags;
    warmUpRestore(this.#options);
  }

  make(pool: NonNullable<ServerShare["pool"]>): Taker {
    return new Taker(pool, this.#shared, this.#options, this.#socketFlags);
  }
}

export class UpstreamServers extends Balancer<Server> implements ServerChoice {
  readonly connectTimeoutMs: number;
  /** How many may stand in line. */
  readonly maxQueue: number;
  readonly proxyProtocol: UpstreamShare["proxyProtocol"];

  constructor(share: UpstreamShare, line: Line, takers: TakerFactory | undefined, log: Logger) {
    const { name, policy, servers } = share;
    super({ name, policy, servers: servers.map((server) => serverOf(server, takers)), line, log });
    this.connectTimeoutMs = share.connectTimeoutMs;
    this.maxQueue = share.maxQueue;
    this.proxyProtocol = share.proxyProtocol;
  }
}

export function serverOf(share: ServerShare, takers: TakerFactory | undefined): Server {
  const { endpoint, hostName, weight, maxConnections, pool, state } = share;
  return {
    name: formatEndpoint(endpoint),
    endpoint,
    hostName,
    family: parseAddress(endpoint.address)?.length === 16 ? 6 : 4,
    sockaddr: encodeSockaddr(endpoint),
    weight,
    maxConnections,
    state: new ServerState(state),
    taker: pool && takers?.make(pool),
  };
}
