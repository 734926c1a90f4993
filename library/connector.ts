/**
 * Connections for undici's dispatchers and for the agents of node:http and node:https. Both have a function of their own
 * that connects, does TLS and all around it; what is ours is to hand it a socket that is connected already. Without one
 * it is called as if we were not there.
 *
 *   take ──none──▶ their connect ──▶ callback, and half-opens for that server from now on
 *     │
 *     └─ socket ─▶ plain: callback    TLS: their connect over it ──secureConnect──▶ callback
 *                                                └─ no byte ever came ──▶ their connect, from the start
 */
import { type ClientRequestArgs, Agent as HttpAgent } from "node:http";
import { globalAgent, Agent as HttpsAgent } from "node:https";
import { connect as netConnect, type Socket, type TcpNetConnectOpts } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { buildConnector } from "undici";
import { Destinations } from "./destinations.ts";
import type { LeasedSocket } from "./leased-socket.ts";
import type { PoolStats } from "./server.ts";
import type { PoolSettings } from "./settings.ts";

/** Pool settings, and what undici's own connector takes: TLS options, allowH2, timeout, autoSelectFamily … */
export type ConnectorOptions = PoolSettings &
  buildConnector.BuildOptions & {
    /** A server nobody connects to is given up after this, ms; default 60,000. */
    readonly idleTimeout?: number;
  };

/** What agents of node:http and node:https call createConnection() with. */
type RequestOptions = ClientRequestArgs & {
  readonly _agentKey?: string;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
};

type Callback = buildConnector.Callback;
/** How a connection was made: of a half-open, in the ordinary way, or in that way after a half-open failed. */
type OnPath = (path: "accelerated" | "direct" | "replayed") => void;
type NodeCallback = (error: Error | null, stream: Duplex) => void;

/** What connector() returns: a function with what concerns its half-opens. */
export interface Connector extends buildConnector.connector {
  /** As createConnection of an agent of node:http or node:https: `agent.createConnection = connector()`. */
  (options: ClientRequestArgs, callback?: NodeCallback): undefined;
  /** The pools in use, in numbers. */
  stats(): readonly PoolStats[];
  /** Gives up every half-open that no other connector or pool shares. Connections go on; new ones are ordinary. */
  close(): Promise<void>;
}

const TIMEOUT = 10_000;
const IDLE_TIMEOUT = 60_000;
const SERVERS_MAX = 256;

/**
 * A connect function for undici (`new Agent({ connect: connector() })`, also Client, Pool and RetryAgent) and a
 * createConnection for node:http and node:https agents. Connections to a server are accelerated from the second on,
 * when half-opens are ready; others, those over unix sockets and those from a given local address are ordinary ones.
 * Throws RangeError ACCEL_SETTINGS. Errors are those of undici's connector and of Node; besides, a plain connection that
 * never existed at its server fails with ACCEL_UNDELIVERED.
 */
export function connector(options: ConnectorOptions = {}): Connector {
  const { min, max, maxSynRate, maxAge, idleTimeout = IDLE_TIMEOUT, ...connectOptions } = options;
  const limits = { max: SERVERS_MAX, idleMs: idleTimeout };
  const destinations = new Destinations({ min, max, maxSynRate, maxAge }, limits);
  const connecting = new Connecting(destinations, connectOptions);
  function connect(
    this: unknown,
    given: buildConnector.Options | ClientRequestArgs,
    callback: Callback | NodeCallback = () => {},
  ): undefined {
    if (isNodes(this, given)) connecting.forNode(this, given, callback as Callback);
    else connecting.forUndici(given as buildConnector.Options, callback as Callback);
  }
  return Object.assign(connect, {
    stats: () => destinations.stats,
    close: () => destinations.close(),
  });
}

/** Agents call createConnection() as a method or with their key, requests without an agent as their options' method. */
function isNodes(self: unknown, given: object): given is RequestOptions {
  return self instanceof HttpAgent || self === given || "_agentKey" in given;
}

/** Where sockets made of half-opens come from. */
export type SocketSource = Pick<Destinations, "take" | "reached">;

/** The two ways to connect, over the same destinations. */
export class Connecting {
  readonly #destinations: SocketSource;
  readonly #options: buildConnector.BuildOptions;
  readonly #undici: buildConnector.connector;
  readonly #timeoutMs: number;

  constructor(destinations: SocketSource, options: buildConnector.BuildOptions) {
    this.#destinations = destinations;
    this.#options = options;
    this.#undici = buildConnector(options);
    this.#timeoutMs = options.timeout ?? TIMEOUT;
  }

  /** `onPath` is told before the callback, the last time it is called. */
  forUndici(given: buildConnector.Options, callback: Callback, onPath: OnPath = () => {}): void {
    const ordinary = (path: "direct" | "replayed"): void => {
      onPath(path);
      this.#undici(given, (...[error, socket]) => {
        if (error !== null) {
          callback(error, null);
          return;
        }
        this.#destinations.reached(socket);
        callback(null, socket);
      });
    };
    const isSecure = given.protocol === "https:";
    const isOurs = !given.httpSocket && !given.localAddress && !this.#options.socketPath;
    const { lookup, family } = this.#options as TcpNetConnectOpts;
    const port = Number(given.port) || (isSecure ? 443 : 80);
    void this.#take(isOurs, { host: given.hostname, port, family, lookup }).then((socket) => {
      if (socket === undefined) {
        this.#attempt(() => ordinary("direct"), callback);
        return;
      }
      onPath("accelerated");
      if (!isSecure) {
        const { keepAlive, keepAliveInitialDelay } = this.#options;
        if (keepAlive ?? true) socket.setKeepAlive(true, keepAliveInitialDelay ?? 60_000);
        process.nextTick(callback, null, socket);
      } else {
        const overIt = (settle: Callback): void => this.#undici({ ...given, httpSocket: socket }, settle);
        this.#secure(socket, overIt, () => this.#attempt(() => ordinary("replayed"), callback), callback);
      }
    });
  }

  forNode(self: unknown, given: RequestOptions, callback: Callback): void {
    const agent = self instanceof HttpAgent ? self : given._defaultAgent;
    const isSecure = (given.protocol ?? protocolOf(agent)) === "https:";
    const secureAgent = agent instanceof HttpsAgent ? agent : globalAgent;
    const connect = (over?: Socket): Socket =>
      isSecure
        ? createSecure(secureAgent, { ...given, ...(over && { socket: over }) })
        : netConnect(given as TcpNetConnectOpts);
    const ordinary = (): void => {
      const socket = connect();
      socket.once("connect", () => this.#destinations.reached(socket));
      callback(null, socket);
    };
    const isOurs = !given.socketPath && !given.localAddress && !given.localPort;
    const { host, port, family, lookup } = given;
    void this.#take(isOurs, { host: host ?? "localhost", port: Number(port), family, lookup }).then(
      (socket) => {
        if (socket === undefined) this.#attempt(ordinary, callback);
        else if (!isSecure) {
          if (given.keepAlive) socket.setKeepAlive(true, given.keepAliveInitialDelay);
          if (given.timeout) socket.setTimeout(given.timeout);
          process.nextTick(callback, null, socket);
        } else {
          const overIt = (settle: Callback): void => {
            const secured = connect(socket);
            // Later than this the agent's own timeouts are told of it, as they are of ordinary connections.
            const limit = setTimeout(() => settle(null, secured), this.#timeoutMs).unref();
            secured.once("secureConnect", () => settle(null, secured));
            secured.once("error", (error) => settle(error, null));
            secured.once("close", () => clearTimeout(limit));
          };
          this.#secure(socket, overIt, () => this.#attempt(ordinary, callback), callback);
        }
      },
    );
  }

  #take(isOurs: boolean, target: Parameters<SocketSource["take"]>[0]): Promise<LeasedSocket | undefined> {
    return isOurs ? this.#destinations.take(target, this.#timeoutMs) : Promise.resolve(undefined);
  }

  /** Options that make no sense are thrown, as by undici and Node, which here nobody would catch. */
  #attempt(connect: () => void, callback: Callback): void {
    try {
      connect();
    } catch (error) {
      process.nextTick(callback, error as Error, null);
    }
  }

  /**
   * TLS over a socket made of a half-open. Before secureConnect nothing of the user's was sent, so that a socket which
   * never heard a byte is given up for an ordinary connection.
   */
  #secure(
    socket: LeasedSocket,
    overIt: (settle: Callback) => void,
    ordinary: () => void,
    callback: Callback,
  ): void {
    let isCallbackd = false;
    const settle: Callback = (...[error, secured]) => {
      if (isCallbackd) return;
      isCallbackd = true;
      if (error === null) callback(null, secured);
      else if (socket.bytesRead > 0 || codeOf(error) === "UND_ERR_CONNECT_TIMEOUT") callback(error, null);
      else {
        socket.server.distrust();
        ordinary();
      }
    };
    socket.failSoon();
    socket.on("error", (error) => settle(error, null));
    socket.once("close", () => setImmediate(settle, new Error("closed before TLS was established"), null));
    this.#attempt(() => overIt(settle), settle);
  }
}

/** As the agent itself connects, its session cache included; its createConnection may be ours. */
function createSecure(agent: HttpsAgent, options: object): TLSSocket {
  const { createConnection } = HttpsAgent.prototype as unknown as {
    createConnection(options: object): TLSSocket;
  };
  return createConnection.call(agent, options);
}

function protocolOf(agent: HttpAgent | undefined): string | undefined {
  return (agent as { readonly protocol?: string } | undefined)?.protocol;
}

function codeOf(error: Error): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
