/**
 * The upstream of transparent listeners: the server of a session is the one that its client wanted. Those that have a
 * pool are accelerated; others are connected to in the ordinary way, and the main thread hears of the visit
 * (proxy/transparent/learned-pools.ts decides who gets a pool).
 *
 * A client that wants the listener itself was intercepted by nobody, and whoever served it would connect to itself
 * for ever. So would one whose connection is ours: our packets are marked and no rule of ours touches them, but
 * another host, or somebody else's rules, may send them back.
 */
import { networkInterfaces } from "node:os";
import type { Target } from "../../config/networks.ts";
import {
  type Endpoint,
  formatAddress,
  formatEndpoint,
  parseAddress,
  parseEndpoint,
} from "../../native/address.ts";
import { SyscallError } from "../../native/errno.ts";
import { originalDestination } from "../../native/net/transparent.ts";
import type { Line } from "../balance/line.ts";
import { NetworkList } from "../networks.ts";
import { type ClientSources, peerOf, type Source, type SourceServices } from "./client-sources.ts";
import type { TransparentShare, UpstreamShare } from "./messages.ts";
import { connectionHash, type OwnConnections } from "./own-connections.ts";
import {
  type ChoosingClient,
  type Server,
  type ServerChoice,
  serverOf,
  sourcesOf,
  type TakerFactory,
} from "./upstream.ts";

/** What of its engine it needs. */
export interface LearnedServices extends SourceServices {
  readonly ownConnections: OwnConnections | undefined;
}

/** Which destinations of a transparent listener are accelerated. */
export class TransparentPolicy {
  readonly bind: Endpoint;
  readonly #allow: readonly ((address: Uint8Array, port: number) => boolean)[];
  readonly #deny: readonly ((address: Uint8Array, port: number) => boolean)[];

  constructor({ bind, allow, deny }: TransparentShare) {
    this.bind = bind;
    this.#allow = allow.map(matcherOf);
    this.#deny = deny.map(matcherOf);
  }

  accelerates({ address, port }: Endpoint): boolean {
    const bytes = parseAddress(address) ?? new Uint8Array();
    if (this.#deny.some((matches) => matches(bytes, port))) return false;
    return this.#allow.length === 0 || this.#allow.some((matches) => matches(bytes, port));
  }
}

function matcherOf(target: Target): (address: Uint8Array, port: number) => boolean {
  const list = new NetworkList([target]);
  return (address, port) => (target.port === null || target.port === port) && list.has(address);
}

export interface LearnedServersOptions {
  readonly share: UpstreamShare;
  readonly line: Line;
  readonly takers: TakerFactory | undefined;
  readonly services: LearnedServices;
  /** Whose servers go on where their pools are still the same. */
  readonly before: LearnedServers | undefined;
}

export class LearnedServers implements ServerChoice {
  readonly name: string;
  readonly connectTimeoutMs: number;
  readonly proxyProtocol: UpstreamShare["proxyProtocol"];
  /** There is none other to try. */
  readonly size = 1;
  /** In which nobody stands: nobody has a limit. */
  readonly line: Line;
  readonly maxQueue = 0;
  readonly #services: LearnedServices;
  readonly #pooled: ReadonlyMap<string, Server>;
  /** Undefined where connections come from this host's address. */
  readonly sources: ClientSources | undefined;

  constructor({ share, line, takers, services, before }: LearnedServersOptions) {
    this.name = share.name;
    this.connectTimeoutMs = share.connectTimeoutMs;
    this.proxyProtocol = share.proxyProtocol;
    this.line = line;
    this.#services = services;
    const servers = share.servers.map((server) => {
      const known = before === undefined ? undefined : before.#pooled.get(formatEndpoint(server.endpoint));
      return known?.taker?.share.id === server.pool?.id && known ? known : serverOf(server, takers);
    });
    this.sources = sourcesOf(share, takers, services, before?.sources);
    this.#pooled = new Map(servers.map((server) => [server.name, server]));
  }

  choose(
    _nowMs: number,
    tried: readonly Server[],
    _isFirst: boolean,
    { socket, listener }: ChoosingClient,
  ): Server | undefined {
    const { share, transparent } = listener;
    if (transparent === undefined || tried.length > 0) return undefined;
    const destination = destinationOf(socket, transparent.bind.port);
    if (destination === undefined) return undefined;
    const loop = this.#loopOf(socket, destination, transparent);
    if (loop !== undefined) {
      const fields = { listener: share.name, destination: formatEndpoint(destination), reason: loop };
      this.#services.log.warn(fields, "refusing a connection that would come back");
      return undefined;
    }
    if (!transparent.accelerates(destination)) return plainServer(destination, false);
    const pooled = this.#pooled.get(formatEndpoint(destination));
    if (pooled === undefined && this.sources === undefined) {
      this.#services.onVisited(this.name, { destination });
    }
    return pooled ?? plainServer(destination);
  }

  source(server: Server, client: number, isBack = false): Source | undefined {
    return this.sources === undefined ? server.own : this.sources.of(server, client, isBack);
  }

  named(name: string | undefined): Server | undefined {
    if (name === undefined) return undefined;
    const endpoint = parseEndpoint(name);
    return this.#pooled.get(name) ?? (endpoint && plainServer(endpoint));
  }

  // Servers that clients chose are not balanced: how they are is for their clients to see.

  admit(): void {}

  reached(): void {}

  failed(): void {}

  release(): void {}

  #loopOf(client: number, destination: Endpoint, { bind }: TransparentPolicy): string | undefined {
    const isAny = bind.address === "0.0.0.0" || bind.address === "::";
    if (
      destination.port === bind.port &&
      (destination.address === bind.address || (isAny && isHere(destination.address)))
    ) {
      return "it is for the listener itself";
    }
    const peer = peerOf(client);
    const own = this.#services.ownConnections;
    if (peer === undefined || own === undefined) return undefined;
    const key = formatEndpoint(destination);
    const isOwn =
      this.sources === undefined
        ? own.has(peer.port, connectionHash(key)) && isHere(formatAddress(peer.address))
        : own.has(peer.port, connectionHash(key, peer.address));
    return isOwn ? "it is our own" : undefined;
  }
}

/** Nobody asks after it. */
const NO_STATE = new SharedArrayBuffer(256);

function plainServer(endpoint: Endpoint, isAccelerated = true): Server {
  const share = { endpoint, weight: 1, maxConnections: 0, pool: undefined, state: NO_STATE };
  return serverOf(share, undefined, isAccelerated);
}

/** Undefined once the client has reset its connection. */
function destinationOf(client: number, listenerPort: number): Endpoint | undefined {
  try {
    return originalDestination(client, listenerPort);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return undefined;
  }
}

/** Whether an address is one of this host's. */
function isHere(address: string): boolean {
  if (address.startsWith("127.") || address === "::1") return true;
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some((known) => known.address === address),
  );
}
