/** An http listener on one thread: its clients, and an exchange for each of their requests. */
import { randomUUID } from "node:crypto";
import { type IncomingMessage, type Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { createSecureContext, type SecureContext, TLSSocket } from "node:tls";
import { Gate } from "../../pool/gate.ts";
import type { Logger } from "../../pool/logger.ts";
import { COUNT, type EngineCounters } from "../engine/counters.ts";
import type { ListenerShare } from "../engine/messages.ts";
import type { ConnectionPath } from "../status.ts";
import { Acceptor } from "./acceptor.ts";
import { answerRaw } from "./answers.ts";
import { addressOf, createClientServer, statusOfClientError } from "./client-server.ts";
import { type Account, Exchange, type ExchangeServices } from "./exchange.ts";
import * as limits from "./limits.ts";
import type { HttpShare, RouteShare } from "./messages.ts";
import { hostMatches, Routes } from "./routes.ts";
import type { HttpUpstream } from "./upstream.ts";

export interface ListenerServices {
  readonly counters: EngineCounters;
  /** This thread's number at the gates. */
  readonly thread: number;
  readonly descriptors: Gate;
  upstream(name: string): HttpUpstream | undefined;
  /** A request has ended. */
  onRequest(fields: object): void;
  readonly log: Logger;
  /** A client's connection has ended. */
  onClientGone(): void;
}

/** A client's connection. */
interface Client {
  readonly socket: Socket;
  readonly exchanges: Set<Exchange>;
  /** Bytes it had sent when its last request ended, and since when there are more. */
  bytesBefore: number;
  headSinceMs: number | undefined;
  /** What it sent behind its requests is none: it ends with them. */
  isBroken: boolean;
}

const REQUEST_ID = /^[\w.:-]{1,128}$/;

export class HttpListener {
  #share: ListenerShare;
  #http!: HttpShare;
  #routes!: Routes;
  #contexts: readonly { readonly names: readonly string[]; readonly context: SecureContext }[] = [];
  readonly #services: ListenerServices;
  readonly #gate: Gate;
  readonly #server: Server;
  readonly #acceptor: Acceptor;
  /** By address and port, which the connection and TLS over it have in common. */
  readonly #clients = new Map<string, Client>();
  #isDraining = false;

  constructor(share: ListenerShare, services: ListenerServices) {
    this.#share = share;
    this.#services = services;
    this.#gate = new Gate(share.gate, services.thread);
    this.#configure(share);
    this.#server = createClientServer(
      this.#contexts.length === 0 ? undefined : (servername) => this.#contextFor(servername),
    );
    this.#server.on("request", (request, response) => this.#onRequest(request, response));
    this.#server.on("checkContinue", (request, response) => this.#onRequest(request, response));
    this.#server.on("upgrade", (request, socket, head) => this.#onUpgrade(request, socket as Socket, head));
    this.#server.on("connect", (_request, socket) => {
      answerRaw(socket as Socket, 405, "CONNECT is not served", randomUUID());
    });
    this.#server.on("clientError", (error, socket) => this.#onClientError(error, socket as Socket));
    this.#server.on("timeout", (socket) => this.#onIdle(socket));
    this.#limitIdleness();
    this.#acceptor = new Acceptor({
      fd: share.fd,
      gates: [this.#gate, services.descriptors],
      onClient: (socket) => this.#onClient(socket),
      onError: (err) => services.log.warn({ err, listener: share.name }, "a client was not accepted"),
    });
  }

  get clients(): number {
    return this.#clients.size + (this.#acceptor.isBlocked ? 1 : 0);
  }

  /** New settings; whether it speaks TLS does not change. */
  configure(share: ListenerShare): void {
    this.#configure(share);
  }

  /** There may be room again. */
  redeem(): void {
    this.#acceptor.redeem();
  }

  /** Accepts nobody any more; who is here stays. `isLast` as in ToWorker. */
  close(isLast: boolean): void {
    this.#acceptor.close(isLast);
  }

  /** Every client ends with the request it is at. */
  drain(): void {
    this.#isDraining = true;
    this.#acceptor.turnAway();
    for (const { socket, exchanges } of [...this.#clients.values()]) {
      if (exchanges.size === 0) socket.destroy();
      for (const exchange of exchanges) exchange.beLast();
    }
  }

  /** Ends every client now. */
  abort(): void {
    for (const { socket } of [...this.#clients.values()]) socket.resetAndDestroy();
  }

  /** Once in a while: whose head does not come to an end. */
  sweep(nowMs: number): void {
    for (const client of this.#clients.values()) {
      if (client.exchanges.size > 0) continue;
      const isReading = client.socket.bytesRead > client.bytesBefore || client.bytesBefore === 0;
      if (!isReading) client.headSinceMs = undefined;
      else client.headSinceMs ??= nowMs;
      if (nowMs - (client.headSinceMs ?? nowMs) > limits.HEAD_LIMIT) client.socket.destroy();
    }
  }

  #configure(share: ListenerShare): void {
    if (share.http === undefined) throw new Error(`listener ${share.name} is not one of http mode`);
    this.#share = share;
    this.#http = share.http;
    this.#gate.limit = share.maxConnections;
    if (this.#server) this.#limitIdleness();
    this.#routes = new Routes(this.#http.routes);
    this.#contexts = this.#http.certificates.map(({ cert, key, names }) => ({
      names,
      context: createSecureContext({ cert, key }),
    }));
  }

  #limitIdleness(): void {
    this.#server.timeout = this.#share.idleTimeoutMs;
    this.#server.keepAliveTimeout = this.#share.idleTimeoutMs;
  }

  #contextFor(servername: string): SecureContext {
    const host = servername.toLowerCase();
    const exact = this.#contexts.find(({ names }) => names.includes(host));
    const found = exact ?? this.#contexts.find(({ names }) => names.some((name) => hostMatches(name, host)));
    return (found ?? this.#contexts[0]!).context;
  }

  // --- clients --------------------------------------------------------------------------------------------------

  #onClient(socket: Socket): void {
    const { counters } = this.#services;
    const { route } = this.#http.routes.at(-1)!;
    counters.add(route, COUNT.total, 1);
    counters.add(route, COUNT.active, 1);
    const peer = peerOf(socket);
    this.#clients.set(peer, {
      socket,
      exchanges: new Set(),
      bytesBefore: 0,
      headSinceMs: undefined,
      isBroken: false,
    });
    socket.once("close", () => {
      this.#clients.delete(peer);
      counters.add(route, COUNT.active, -1);
      this.#services.onClientGone();
    });
    this.#server.emit("connection", socket);
    socket.resume();
  }

  #onClientError(error: Error, socket: Socket): void {
    const status = statusOfClientError(error);
    const client = this.#clients.get(peerOf(socket));
    const exchanges = client === undefined ? [] : [...client.exchanges];
    if (client !== undefined && exchanges.length > 0 && exchanges.every(({ isComplete }) => isComplete)) {
      client.isBroken = true;
      for (const exchange of exchanges) exchange.beLast();
      return;
    }
    // Behind an answer that has begun there is no place for another.
    const isBusy = exchanges.some(({ hasAnswer }) => hasAnswer);
    if (status === undefined || isBusy || !socket.writable) {
      socket.destroy();
      return;
    }
    const requestId = randomUUID();
    const { name } = this.#share;
    const { code: problem = error.message } = error as NodeJS.ErrnoException;
    this.#services.onRequest({ listener: name, client: addressOf(socket), status, problem, requestId });
    answerRaw(socket, status, "this is not a request that can be understood", requestId);
  }

  #onIdle(socket: Socket): void {
    const client = this.#clients.get(peerOf(socket));
    // Whoever waits for an answer is not idle; its route has a timeout.
    if (client !== undefined && [...client.exchanges].some(({ isWaiting }) => isWaiting)) return;
    socket.destroy();
  }

  // --- requests -------------------------------------------------------------------------------------------------

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    if (this.#isDraining) response.shouldKeepAlive = false;
    this.#begin(request, response);
  }

  #onUpgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(socket);
    response.once("finish", () => {
      if (response.statusCode === 101) return;
      response.detachSocket(socket);
      socket.end();
    });
    socket.on("error", () => {});
    const protocol = request.headers.upgrade ?? "websocket";
    this.#begin(request, response, { socket, head, protocol });
  }

  #begin(
    request: IncomingMessage,
    response: ServerResponse,
    upgrading?: ConstructorParameters<typeof Exchange>[4],
  ): void {
    const { socket } = request;
    const client = this.#clients.get(peerOf(socket));
    const given = request.headers["x-request-id"];
    const requestId = typeof given === "string" && REQUEST_ID.test(given) ? given : randomUUID();
    const origin = { address: addressOf(socket), isSecure: socket instanceof TLSSocket, requestId };
    const services: ExchangeServices = {
      takeAfterMs: this.#share.takeAfterMs,
      idleTimeoutMs: this.#share.idleTimeoutMs,
      route: (host, path) => this.#routes.find(host, path),
      upstream: (name) => this.#services.upstream(name),
      onEnd: (account) => {
        client?.exchanges.delete(exchange);
        if (client && client.exchanges.size === 0) {
          client.bytesBefore = client.socket.bytesRead;
          client.headSinceMs = undefined;
          if (this.#isDraining || client.isBroken) client.socket.destroySoon();
        }
        this.#count(account);
        this.#services.onRequest(this.#line(account, origin.address));
      },
    };
    const exchange = new Exchange(request, response, origin, services, upgrading);
    client?.exchanges.add(exchange);
    void exchange.run();
  }

  #count({ route, connect, firstByteMs, bytesUpstream, bytesDownstream, savedMs }: Account): void {
    if (route === undefined) return;
    const { counters } = this.#services;
    counters.add(route.route, COUNT.bytesUpstream, bytesUpstream);
    counters.add(route.route, COUNT.bytesDownstream, bytesDownstream);
    if (connect === "reused") return;
    const path: ConnectionPath = connect ?? "failed";
    counters.countPath(route.route, path);
    if (savedMs !== undefined) {
      counters.add(route.route, COUNT.roundTripsSaved, 1);
      counters.add(route.route, COUNT.secondsSaved, savedMs / 1e3);
    }
    if (firstByteMs !== undefined) counters.observeFirstByte(path, firstByteMs / 1e3);
  }

  #line(account: Account, client: string): object {
    const { route, firstByteMs, totalMs, bytesUpstream: _, bytesDownstream: __, ...rest } = account;
    const { savedMs: ___, ...fields } = rest;
    return {
      listener: this.#share.name,
      client,
      ...fields,
      upstream: (route as RouteShare | undefined)?.upstream,
      firstByteMs: firstByteMs === undefined ? undefined : rounded(firstByteMs),
      totalMs: rounded(totalMs),
    };
  }
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

function rounded(ms: number): number {
  return Math.round(ms * 100) / 100;
}
