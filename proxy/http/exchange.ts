/**
 * One request from its head to the end of its answer. It is tried on one connection after another while it is certain that
 * no application can have begun with it, or it may be repeated and its route says so.
 *
 *   reading ──▶ trying ──head of the answer──▶ answering ──▶ ended
 *      │          │ └ the connection failed: another one ┘      │
 *      └ refused ─┴──▶ answered by us (4xx, 502, 503, 504)      └ the upstream failed: the client's connection is cut
 *
 * Read DESIGN.md sections 6 and 8 first: what proves that a request never arrived.
 */
import {
  type ClientRequest,
  request as clientRequest,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import { nowMs } from "../../native/clock.ts";
import type { Waiter } from "../balance/line.ts";
import type { Server } from "../engine/upstream.ts";
import type { ConnectionPath } from "../status.ts";
import { answer } from "./answers.ts";
import { type Origin, upstreamFields, withVia } from "./forwarded.ts";
import * as limits from "./limits.ts";
import type { RouteShare } from "./messages.ts";
import { RequestBody } from "./request-body.ts";
import { type RequestHead, readHead, responseFields, trailerFields } from "./request-head.ts";
import { join } from "./tunnel.ts";
import type { Connection, HttpUpstream, ServerConnections } from "./upstream.ts";

/** What became of a request: what the access log and the counters are told. */
export interface Account {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly requestId: string;
  readonly route: RouteShare | undefined;
  readonly server: string | undefined;
  /** How the connection came about that the answer came over; undefined when there was none. */
  readonly connect: ConnectionPath | "reused" | undefined;
  readonly tries: number;
  readonly status: number;
  /** From going to the upstream to the head of its answer, ms. */
  readonly firstByteMs: number | undefined;
  readonly totalMs: number;
  /** Of the bodies. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Over the upstream's connections, heads included. */
  readonly bytesUpstream: number;
  readonly bytesDownstream: number;
  /** The round trip that a half-open saved, undefined where none did. */
  readonly savedMs: number | undefined;
  /** Why there was no whole answer. */
  readonly problem: string | undefined;
}

export interface ExchangeServices {
  readonly takeAfterMs: number;
  readonly idleTimeoutMs: number;
  route(host: string, path: string): RouteShare;
  upstream(name: string): HttpUpstream | undefined;
  onEnd(account: Account): void;
}

/** Where an upgraded connection's bytes come from when it is handed over. */
export interface Upgrading {
  readonly socket: Socket;
  readonly head: Buffer;
  readonly protocol: string;
}

export class Exchange {
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #origin: Origin;
  readonly #services: ExchangeServices;
  readonly #upgrading: Upgrading | undefined;
  readonly #startedMs = performance.now();
  #head: RequestHead | undefined;
  #route: RouteShare | undefined;
  #body!: RequestBody;
  #upstream!: HttpUpstream;
  /** Where it has a place. */
  #server: Server | undefined;
  /** The last one that it had, for the log. */
  #serverName: string | undefined;
  readonly #tried: Server[] = [];
  #waiter: Waiter | undefined;
  #connection: Connection | undefined;
  #out: ClientRequest | undefined;
  #deadline: NodeJS.Timeout | undefined;
  /** Tries that failed, of all and of those that may have arrived. */
  #tries = 0;
  #repeats = 0;
  #wentMs = 0;
  #firstByteMs: number | undefined;
  #savedMs: number | undefined;
  #bytesOut = 0;
  #path: Connection["path"] | undefined;
  #wasUndelivered = false;
  readonly #before = { upstream: 0, downstream: 0 };
  readonly #passed = { upstream: 0, downstream: 0 };
  #problem: string | undefined;
  #hasEnded = false;

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    origin: Origin,
    services: ExchangeServices,
    upgrading?: Upgrading,
  ) {
    this.#request = request;
    this.#response = response;
    this.#origin = origin;
    this.#services = services;
    this.#upgrading = upgrading;
    response.once("close", () => this.#onClosed());
  }

  /** Nothing of an answer has come: the client waits, and its connection is not idle. */
  get isWaiting(): boolean {
    return !this.#hasEnded && this.#firstByteMs === undefined && this.#body?.hasEnded === true;
  }

  /** An answer has begun. */
  get hasAnswer(): boolean {
    return this.#response.headersSent;
  }

  /** The client has sent all of it. */
  get isComplete(): boolean {
    return this.#request.complete;
  }

  /** Its connection ends with this request. */
  beLast(): void {
    if (!this.hasAnswer) this.#response.shouldKeepAlive = false;
  }

  async run(): Promise<void> {
    const head = readHead(this.#request);
    if ("status" in head) {
      // Where the body of such a request ends is not known for certain either.
      this.#response.shouldKeepAlive = false;
      this.#refuse(head.status, head.reason);
      return;
    }
    this.#head = head;
    this.#body = new RequestBody(this.#request, head.framing);
    this.#route = this.#services.route(head.host, head.path);
    const upstream = this.#services.upstream(this.#route.upstream);
    if (upstream === undefined || upstream.size === 0) {
      this.#refuse(503, "no server is known");
      return;
    }
    this.#upstream = upstream;
    if (!head.expectsContinue) await this.#body.ready(this.#services.takeAfterMs);
    if (this.#isOver) return; // the client went while its body was waited for
    this.#wentMs = performance.now();
    this.#deadline = setTimeout(() => this.#onTimeout(), this.#route.timeoutMs);
    this.#next();
  }

  // --- trying ---------------------------------------------------------------------------------------------------

  /** Goes to a server that was not tried, as soon as one has a place. */
  #next(): void {
    this.#leaveServer();
    const chosen = this.#upstream.choose(nowMs(), this.#tried);
    if (chosen === "full") {
      const waiter: Waiter = { seek: (now) => this.#seek(now) };
      this.#waiter = waiter;
      const { line, maxQueue } = this.#upstream;
      if (line.stand(waiter, maxQueue)) line.serve(nowMs());
      else this.#refuse(503, "every server has its maxConnections, and maxQueue wait already");
    } else if (chosen === undefined) this.#refuse(502, "no server can be reached");
    else void this.#try(chosen);
  }

  /** First in line, and perhaps there is a place: false when there is none. */
  #seek(now: number): boolean {
    if (this.#hasEnded || this.#response.headersSent) return true;
    const chosen = this.#upstream.choose(now, this.#tried, true);
    if (chosen === "full") return false;
    if (chosen === undefined) this.#refuse(502, "no server can be reached");
    else void this.#try(chosen);
    return true;
  }

  /** `server` has a place for this request, until #leaveServer(). */
  async #try(server: Server, mayReuse = true): Promise<void> {
    this.#server = server;
    this.#tries += 1;
    const connections = this.#upstream.to(server);
    this.#serverName = connections.name;
    // What must not be sent twice goes over a connection whose every failure tells whether it arrived.
    const idle =
      mayReuse && this.#head!.isIdempotent && this.#upgrading === undefined && connections.takeIdle();
    try {
      this.#connection = idle || (await connections.fresh());
    } catch (error) {
      this.#upstream.failed(server, nowMs());
      if (!this.#isOver) this.#onUnreached(server, error as Error);
      return;
    }
    if (this.#isOver) {
      this.#connection.socket.destroy();
      return;
    }
    if (this.#connection.path === "direct") this.#upstream.reached(server);
    this.#send(connections, this.#connection);
  }

  /** Nothing can be tried any more. */
  get #isOver(): boolean {
    return this.#hasEnded || this.#response.headersSent;
  }

  /** No connection: another server may have one. */
  #onUnreached(server: Server, error: Error): void {
    this.#tried.push(server);
    if (this.#tried.length < this.#upstream.size) {
      this.#next();
      return;
    }
    const isLate = codeOf(error) === "UND_ERR_CONNECT_TIMEOUT" || codeOf(error) === "ETIMEDOUT";
    this.#refuse(isLate ? 504 : 502, "the server cannot be reached", error);
  }

  #leaveServer(): void {
    if (this.#server === undefined) return;
    this.#upstream.release(this.#server);
    this.#server = undefined;
  }

  #send(server: ServerConnections, { socket, path }: Connection): void {
    const { method, target } = this.#head!;
    this.#before.upstream = socket.bytesWritten;
    this.#before.downstream = socket.bytesRead;
    const out = clientRequest({
      method,
      path: target,
      headers: this.#fields(server),
      createConnection: () => socket,
      maxHeaderSize: limits.HEAD_BYTES_MAX,
      insecureHTTPParser: false,
    });
    this.#out = out;
    // Without an agent Node means to end the connection, whatever the header says.
    out.shouldKeepAlive = this.#upstream.http.reuseMs > 0;
    out.maxHeadersCount = 0;
    out.on("information", ({ statusCode, statusMessage, rawHeaders }) =>
      this.#inform(statusCode, statusMessage, rawHeaders),
    );
    out.on("response", (incoming) => this.#onResponse(server, incoming));
    out.on("upgrade", (incoming, upstreamSocket, rest) =>
      this.#onUpgrade(incoming, upstreamSocket as Socket, rest),
    );
    out.on("error", (error) => {
      if (this.#out === out) this.#onFailed(server, path, error);
    });
    out.setTimeout(this.#services.idleTimeoutMs, () => out.destroy(new Error("silent for idleTimeout")));
    this.#body.send(out);
  }

  #fields(server: ServerConnections): string[] {
    const head = this.#head!;
    const { hostHeader, reuseMs } = this.#upstream.http;
    const authority = head.authority === "" ? server.name : head.authority;
    const fields = upstreamFields(head, this.#origin, hostHeader ?? authority);
    if (head.framing === "chunked") fields.push("Transfer-Encoding", "chunked");
    else if (head.framing !== "none") fields.push("Content-Length", String(head.framing));
    else if (head.method === "POST" || head.method === "PUT" || head.method === "PATCH")
      fields.push("Content-Length", "0");
    if (head.expectsContinue) fields.push("Expect", "100-continue");
    if (this.#upgrading) fields.push("Connection", "Upgrade", "Upgrade", this.#upgrading.protocol);
    else fields.push("Connection", reuseMs > 0 ? "keep-alive" : "close");
    return fields;
  }

  /** The connection failed before the head of an answer. */
  #onFailed(server: ServerConnections, path: Connection["path"], error: Error): void {
    if (this.#hasEnded) return;
    if (this.#response.headersSent) {
      this.#cut(error);
      return;
    }
    this.#out = undefined;
    this.#body.detach();
    this.#countBytes();
    if (this.#body.isRepeatable && this.#upgrading === undefined) {
      const isUnborn = codeOf(error) === "ACCEL_UNDELIVERED";
      const hasHeard = this.#connection!.socket.bytesRead > this.#before.downstream;
      this.#connection = undefined;
      this.#wasUndelivered ||= isUnborn;
      if (isUnborn || (path === "reused" && !hasHeard)) {
        void this.#try(server.server, false);
        return;
      }
      if (this.#head!.isIdempotent && this.#repeats < this.#route!.retries) {
        this.#repeats += 1;
        // Another server if there is one, else the same once more.
        this.#tried.push(server.server);
        if (this.#tried.length >= this.#upstream.size) this.#tried.length = 0;
        this.#next();
        return;
      }
    }
    if (codeOf(error) === "ETIMEDOUT") this.#upstream.failed(server.server, nowMs());
    const isLate = codeOf(error) === "ETIMEDOUT" || error.message === "silent for idleTimeout";
    this.#refuse(isLate ? 504 : 502, "the server ended the connection without an answer", error);
  }

  #onTimeout(): void {
    if (this.#hasEnded || this.#firstByteMs !== undefined) return;
    const out = this.#out;
    this.#out = undefined;
    this.#countBytes();
    this.#refuse(504, "no answer in time");
    out?.on("error", () => {}).destroy();
  }

  // --- answering ------------------------------------------------------------------------------------------------

  /** 1xx: passed on where the client can know it. */
  #inform(status: number, message: string, rawHeaders: readonly string[]): void {
    const { socket } = this.#response;
    // Without a socket it is not this response's turn: the client gets the hint too late to be of use.
    if (this.#response.headersSent || !socket?.writable || this.#request.httpVersion !== "1.1") return;
    const fields = responseFields(rawHeaders, false);
    const lines = [`HTTP/1.1 ${status} ${message}`];
    for (let at = 0; at < fields.length; at += 2) lines.push(`${fields[at]}: ${fields[at + 1]}`);
    socket.write(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
  }

  #onResponse(server: ServerConnections, incoming: IncomingMessage): void {
    const response = this.#response;
    this.#onAnswer();
    const status = incoming.statusCode!;
    const fields = responseFields(incoming.rawHeaders, status !== 204);
    response.writeHead(status, incoming.statusMessage, withVia(fields));
    incoming.on("data", (chunk: Buffer) => {
      this.#bytesOut += chunk.length;
      if (!response.write(chunk)) incoming.pause();
    });
    response.on("drain", () => incoming.resume());
    incoming.on("end", () => {
      for (const trailer of trailerFields(incoming.rawTrailers)) response.addTrailers([trailer]);
      response.end();
      this.#release(server);
    });
    incoming.on("error", (error) => this.#cut(error));
    // A head whose body takes its time must not wait for it.
    setImmediate(() => {
      if (this.#bytesOut === 0 && !response.writableEnded) response.flushHeaders();
    });
  }

  #onUpgrade(incoming: IncomingMessage, upstreamSocket: Socket, rest: Buffer): void {
    const upgrading = this.#upgrading;
    if (upgrading === undefined) {
      upstreamSocket.destroy();
      this.#refuse(502, "the server switched protocols unasked");
      return;
    }
    this.#onAnswer();
    const { socket, head } = upgrading;
    const fields = withVia(responseFields(incoming.rawHeaders, false));
    const upgrade = String(incoming.headers.upgrade ?? upgrading.protocol);
    this.#response.writeHead(101, incoming.statusMessage, [
      ...fields,
      "Connection",
      "Upgrade",
      "Upgrade",
      upgrade,
    ]);
    this.#response.flushHeaders();
    this.#response.detachSocket(socket);
    const done = join(socket, upstreamSocket, { head, rest, idleTimeoutMs: this.#services.idleTimeoutMs });
    void done.then((bytes) => {
      this.#bytesOut = bytes.downstream;
      this.#end();
    });
  }

  #onAnswer(): void {
    clearTimeout(this.#deadline);
    this.#firstByteMs = performance.now() - this.#wentMs;
    if (this.#connection!.path !== "direct") this.#upstream.reached(this.#server!);
    this.#path = this.#wasUndelivered ? "replayed" : this.#connection!.path;
    if (this.#path === "accelerated") this.#savedMs = this.#server?.taker?.rttMs ?? 0;
    this.#body.forget();
  }

  /** The answer is complete: the connection is free as soon as the request is. */
  #release(server: ServerConnections): void {
    this.#countBytes();
    const { socket } = this.#connection!;
    const out = this.#out!;
    this.#connection = undefined;
    if (!out.writableEnded) {
      this.#body.discard();
      out.on("error", () => {}).destroy();
    } else if (out.shouldKeepAlive) {
      socket.once("free", () => server.keep(socket));
    }
  }

  /** Too late for another answer: the client must not take what it has for a whole one. */
  #cut(error: Error): void {
    this.#problem ??= describe(error);
    this.#response.destroy();
  }

  #refuse(status: number, reason: string, error?: Error): void {
    clearTimeout(this.#deadline);
    this.#problem ??= error === undefined ? reason : describe(error);
    this.#body?.discard();
    if (!this.#response.headersSent) answer(this.#response, status, reason, this.#origin.requestId);
  }

  // --- the end --------------------------------------------------------------------------------------------------

  /** The response is complete, or the client has gone. */
  #onClosed(): void {
    if (this.#hasEnded) return;
    if (!this.#response.writableFinished) this.#problem ??= "the client went away";
    this.#end();
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#deadline);
    this.#countBytes();
    if (this.#connection !== undefined) this.#out?.on("error", () => {}).destroy();
    if (this.#waiter !== undefined) this.#upstream.line.leave(this.#waiter);
    this.#leaveServer();
    const { method = "", url = "", headers } = this.#request;
    this.#services.onEnd({
      method,
      host: this.#head?.authority ?? headers.host ?? "",
      path: this.#head?.target ?? url,
      requestId: this.#origin.requestId,
      route: this.#route,
      server: this.#serverName,
      connect: this.#path,
      tries: this.#tries,
      status: this.#response.headersSent ? this.#response.statusCode : 0,
      firstByteMs: this.#firstByteMs,
      totalMs: performance.now() - this.#startedMs,
      bytesIn: this.#body?.bytes ?? 0,
      bytesOut: this.#bytesOut,
      bytesUpstream: this.#passed.upstream,
      bytesDownstream: this.#passed.downstream,
      savedMs: this.#savedMs,
      problem: this.#problem,
    });
  }

  #countBytes(): void {
    const socket = this.#connection?.socket;
    if (socket === undefined) return;
    this.#passed.upstream += socket.bytesWritten - this.#before.upstream;
    this.#passed.downstream += socket.bytesRead - this.#before.downstream;
    this.#before.upstream = socket.bytesWritten;
    this.#before.downstream = socket.bytesRead;
  }
}

function codeOf(error: Error): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

function describe(error: Error): string {
  return codeOf(error) ?? error.message;
}
