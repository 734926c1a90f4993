/**
 * An upstream as one http worker uses it: connections to its servers, fresh or kept from an earlier request.
 *
 *   fresh() ──half-open or connect──▶ in use ──keep()──▶ idle ──takeIdle()──▶ in use
 *                                                         └──reuse is over, a byte, FIN or RST──▶ closed
 */
import type { Socket } from "node:net";
import { Connecting } from "../../library/connector.ts";
import { Server as PooledServer } from "../../library/server.ts";
import { formatEndpoint } from "../../native/address.ts";
import type { Gate } from "../../pool/gate.ts";
import type { Logger } from "../../pool/logger.ts";
import type { Line } from "../balance/line.ts";
import type { EngineCounters } from "../engine/counters.ts";
import type { UpstreamShare } from "../engine/messages.ts";
import { type Server, type TakerFactory, UpstreamServers } from "../engine/upstream.ts";
import type { ConnectionPath } from "../status.ts";
import * as limits from "./limits.ts";
import type { HttpUpstreamShare } from "./messages.ts";

/** A connection in use. Whoever has it ends its socket or keeps it. */
export interface Connection {
  readonly socket: Socket;
  readonly path: ConnectionPath | "reused";
}

interface Idle {
  readonly socket: Socket;
  readonly onEnd: () => void;
}

export interface UpstreamServices {
  readonly takers: TakerFactory | undefined;
  readonly counters: EngineCounters;
  readonly descriptors: Gate;
  readonly log: Logger;
}

export class HttpUpstream extends UpstreamServers {
  readonly http: HttpUpstreamShare;
  readonly #connections = new Map<Server, ServerConnections>();
  readonly #services: UpstreamServices;
  readonly #share: UpstreamShare;

  /** `line` is where those wait for whom there is no place. */
  constructor(share: UpstreamShare, line: Line, services: UpstreamServices) {
    const { takers, log } = services;
    super({ share, line, takers, services: { log, onVisited: () => {} }, before: undefined });
    this.http = share.http;
    this.#share = share;
    this.#services = services;
  }

  /** The connections to one of its servers. */
  to(server: Server): ServerConnections {
    let connections = this.#connections.get(server);
    if (connections === undefined) {
      connections = new ServerConnections(server, this.#share, this.#services);
      this.#connections.set(server, connections);
    }
    return connections;
  }

  /** Closes idle connections; those in use end with their requests. */
  close(): void {
    for (const connections of this.#connections.values()) connections.close();
  }
}

/** The connections to one server. */
export class ServerConnections {
  readonly server: Server;
  /** Address and port. */
  readonly name: string;
  readonly #share: UpstreamShare;
  readonly #services: UpstreamServices;
  readonly #connecting: Connecting;
  readonly #pooled: PooledServer | undefined;
  readonly #idle: Idle[] = [];
  #isClosed = false;

  constructor(server: Server, share: UpstreamShare, services: UpstreamServices) {
    this.server = server;
    this.name = formatEndpoint(server.endpoint);
    this.#share = share;
    this.#services = services;
    this.#pooled = server.taker && new PooledServer(server.taker, () => {});
    const { tls } = share.http;
    this.#connecting = new Connecting(
      { take: (_, silenceMaxMs) => Promise.resolve(this.#take(silenceMaxMs)), reached: () => {} },
      {
        timeout: share.connectTimeoutMs,
        ...(tls && { rejectUnauthorized: tls.rejectUnauthorized, ...(tls.ca !== null && { ca: tls.ca }) }),
      },
    );
  }

  /** A connection of no earlier request. Rejects as connecting does, UND_ERR_CONNECT_TIMEOUT when it took too long. */
  fresh(): Promise<Connection> {
    const { address, port } = this.server.endpoint;
    const { tls } = this.#share.http;
    const servername = tls?.servername ?? this.server.hostName;
    const target = {
      protocol: tls ? "https:" : "http:",
      hostname: address,
      host: address,
      port: String(port),
      ...(servername !== undefined && { servername }),
    };
    return new Promise((resolve, reject) => {
      let path: ConnectionPath = "direct";
      this.#connecting.forUndici(
        target,
        (...[error, socket]) => {
          if (error !== null) {
            reject(error);
            return;
          }
          socket.on("error", () => {}); // there is not always a request to hear of it
          resolve({ socket, path });
        },
        (taken) => {
          path = taken;
        },
      );
    });
  }

  /** One that served an earlier request, if there is one. */
  takeIdle(): Connection | undefined {
    const idle = this.#idle.at(-1);
    if (idle === undefined) return undefined;
    this.#forget(idle);
    return { socket: idle.socket, path: "reused" };
  }

  /** Keeps the connection of a request that has ended, or ends it. */
  keep(socket: Socket): void {
    const { reuseMs } = this.#share.http;
    const isWanted = reuseMs > 0 && !this.#isClosed && this.#idle.length < limits.IDLE_MAX;
    const isUsable = !socket.destroyed && socket.writable && socket.readableLength === 0;
    if (!isWanted || !isUsable || !this.#services.descriptors.borrow()) {
      socket.destroy();
      return;
    }
    // Whatever happens to it now, it is of no use: an answer nobody asked for must not meet the next request.
    const idle: Idle = { socket, onEnd: () => this.#drop(idle) };
    this.#idle.push(idle);
    socket.setTimeout(reuseMs);
    for (const event of ENDS) socket.on(event, idle.onEnd);
  }

  close(): void {
    this.#isClosed = true;
    for (const idle of [...this.#idle]) this.#drop(idle);
  }

  #drop(idle: Idle): void {
    this.#forget(idle);
    idle.socket.destroy();
  }

  #forget(idle: Idle): void {
    const { socket, onEnd } = idle;
    this.#idle.splice(this.#idle.indexOf(idle), 1);
    this.#services.descriptors.giveBack();
    for (const event of ENDS) socket.off(event, onEnd);
    socket.setTimeout(0);
  }

  #take(silenceMaxMs: number): ReturnType<PooledServer["take"]> {
    if (this.#pooled === undefined) return undefined;
    const startedMs = performance.now();
    const socket = this.#pooled.take(silenceMaxMs);
    if (socket) this.#services.counters.observeMaterialize((performance.now() - startedMs) / 1e3);
    return socket;
  }
}

const ENDS = ["data", "end", "error", "timeout", "close"] as const;
