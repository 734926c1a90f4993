/** An upstream as one worker uses it: its servers and their pools. */
import { SO_MARK, SOL_SOCKET } from "../../native/abi/socket.ts";
import { type Endpoint, encodeSockaddr, formatEndpoint, parseAddress } from "../../native/address.ts";
import type { IntOption } from "../../native/repair/image.ts";
import { warmUpRestore } from "../../native/repair/restore.ts";
import { EntryTable } from "../../pool/entry-table.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import type { KeeperShare } from "../../pool/keeper-handle.ts";
import { KeeperSignal } from "../../pool/signal.ts";
import { Taker } from "../../pool/taker.ts";
import { type BalancedServer, Balancer } from "../balance/balancer.ts";
import type { Line } from "../balance/line.ts";
import { ServerState } from "../balance/server-state.ts";
import { ClientSources, type Source, type SourceServices } from "./client-sources.ts";
import type { ListenerState } from "./engine.ts";
import type { ServerShare, UpstreamShare } from "./messages.ts";

export interface Server extends BalancedServer {
  readonly endpoint: Endpoint;
  /** What the configuration calls it, if that is a name. */
  readonly hostName: string | undefined;
  readonly family: 4 | 6;
  readonly sockaddr: Uint8Array;
  readonly taker: Taker | undefined;
  /** Connections from this host's address. */
  readonly own: Source;
  /** There may be half-opens to it. */
  readonly isAccelerated: boolean;
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
  /**
   * Whom the session of a client's socket comes from at a server; undefined when it cannot go to that one. `isBack`: it is there
   * already, with its connection.
   */
  source(server: Server, client: number, isBack?: boolean): Source | undefined;
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

  /** For a pool, `before` where it was made for the same one. */
  again(pool: NonNullable<ServerShare["pool"]>, before: Taker | undefined): Taker {
    return before?.share.id === pool.id ? before : this.make(pool);
  }

  make(pool: NonNullable<ServerShare["pool"]>): Taker {
    return new Taker(pool, this.#shared, this.#options, this.#socketFlags);
  }
}

export interface UpstreamServersOptions {
  readonly share: UpstreamShare;
  readonly line: Line;
  readonly takers: TakerFactory | undefined;
  readonly services: SourceServices;
  readonly before: UpstreamServers | undefined;
}

export class UpstreamServers extends Balancer<Server> implements ServerChoice {
  readonly connectTimeoutMs: number;
  /** How many may stand in line. */
  readonly maxQueue: number;
  readonly proxyProtocol: UpstreamShare["proxyProtocol"];

  /** Undefined where connections come from this host's address. */
  readonly sources: ClientSources | undefined;

  constructor({ share, line, takers, services, before }: UpstreamServersOptions) {
    const { name, policy, servers } = share;
    const { log } = services;
    super({ name, policy, servers: servers.map((server) => serverOf(server, takers)), line, log });
    this.sources = sourcesOf(share, takers, services, before?.sources);
    this.connectTimeoutMs = share.connectTimeoutMs;
    this.maxQueue = share.maxQueue;
    this.proxyProtocol = share.proxyProtocol;
  }

  source(server: Server, client: number, isBack = false): Source | undefined {
    return this.sources === undefined ? server.own : this.sources.of(server, client, isBack);
  }
}

/** Undefined where connections come from this host's address. */
export function sourcesOf(
  { name, clientPools }: UpstreamShare,
  takers: TakerFactory | undefined,
  services: SourceServices,
  before: ClientSources | undefined,
): ClientSources | undefined {
  return clientPools && new ClientSources(name, clientPools, takers, services, before);
}

export function serverOf(share: ServerShare, takers: TakerFactory | undefined, isAccelerated = true): Server {
  const { endpoint, hostName, weight, maxConnections, pool, state } = share;
  const taker = pool && takers?.make(pool);
  return {
    name: formatEndpoint(endpoint),
    endpoint,
    hostName,
    family: parseAddress(endpoint.address)?.length === 16 ? 6 : 4,
    sockaddr: encodeSockaddr(endpoint),
    weight,
    maxConnections,
    state: new ServerState(state),
    taker,
    own: { address: undefined, taker },
    isAccelerated,
  };
}
