/**
 * One connection to the upstream, timed: an ordinary one, or one made of a half-open.
 *
 *   connecting ──▶ established ──(quiet)──▶ asked ──▶ answered
 *        │             │                       │
 *        └─────────────┴── error, FIN, time ───┴──▶ an outcome without a time
 */
import { connect, Socket } from "node:net";
import type { Endpoint } from "../../native/address.ts";
import { nowMs } from "../../native/clock.ts";
import { getTcpInfo, type TcpInfo } from "../../native/sockopt.ts";
import type { Ending } from "../../pool/entry-table.ts";
import type { Lease, Taker } from "../../pool/taker.ts";
import { errorSymbol } from "../errors.ts";
import * as limits from "./limits.ts";
import { until } from "./pacing.ts";

/**
 * answered: a first byte came. established: the server has the connection, and nothing was asked. refused,
 * reset, closed: as the server did. vanished: what we sent was never acknowledged. unanswered: it was, and no
 * more. unreachable: no connection within CONNECT_MAX, or an error of the network. unavailable: no half-open
 * to take.
 */
export type Outcome =
  | "answered"
  | "established"
  | "refused"
  | "reset"
  | "closed"
  | "vanished"
  | "unanswered"
  | "unreachable"
  | "unavailable";

export interface Exchange {
  readonly outcome: Outcome;
  /** From the start to the answer's first byte, or without a request until a first byte can leave. */
  readonly ms: number | undefined;
  /** What the server said first, up to one segment or so. */
  readonly head: string;
  /** The request was sent: the server did not speak first. */
  readonly wasAsked: boolean;
  /** TCP's own measure of the first flight's round trip; accelerated connections only. */
  readonly dataRttMs: number | undefined;
  /** What was sent had to be sent again; false for ordinary connections, which are not asked. */
  readonly wasRepeated: boolean;
}

export interface Request {
  /** Sent once established; without it the connection is only opened and closed. */
  readonly text: string | undefined;
  /** Waits so long for a server that speaks first, whose words are the answer then. */
  readonly quietMs?: number;
}

/** Opens an ordinary connection. The caller has its turn to send a SYN. Rejects when `stop` aborts. */
export function exchangeDirectly(server: Endpoint, request: Request, stop: AbortSignal): Promise<Exchange> {
  const startedMs = nowMs();
  const socket = connect({ host: server.address, port: server.port, noDelay: true, allowHalfOpen: true });
  return new Conversation(socket, startedMs, request, stop, undefined).ended.then(({ exchange }) => exchange);
}

/** Takes a half-open as soon as one is ready; the time starts then. Rejects when `stop` aborts. */
export async function exchangeAccelerated(
  taker: Taker,
  request: Request,
  stop: AbortSignal,
): Promise<Exchange> {
  let startedMs = nowMs();
  const takeReady = (): Lease | undefined => {
    startedMs = nowMs();
    return taker.block.get("ready") > 0 ? taker.take() : undefined;
  };
  const lease = await until(takeReady, limits.READY_MAX, limits.STEP, stop);
  if (lease === undefined)
    return {
      outcome: "unavailable",
      ms: undefined,
      head: "",
      wasAsked: false,
      dataRttMs: undefined,
      wasRepeated: false,
    };
  const socket = new Socket({ fd: lease.fd, allowHalfOpen: true });
  const conversation = new Conversation(socket, startedMs, request, stop, () => getTcpInfo(lease.fd));
  const { exchange, ending } = await conversation.ended;
  taker.finish(lease, ending, request.text?.length ?? 0);
  return exchange;
}

interface Ended {
  readonly exchange: Exchange;
  readonly ending: Ending;
}

const POLL_MS = 5;

/** Closes with a RST. While it connects Node would wait for that to end first, for minutes. */
function abandon(socket: Socket): void {
  if (socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
}

class Conversation {
  readonly ended: Promise<Ended>;
  readonly #socket: Socket;
  readonly #startedMs: number;
  readonly #request: Request;
  /** Asks the kernel; only for sockets whose descriptor is known, which are established from the start. */
  readonly #info: (() => TcpInfo) | undefined;
  #resolve: (ended: Ended) => void = () => {};
  #reject: (error: unknown) => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  #establishedMs: number | undefined;
  #wasAsked = false;
  #hasEnded = false;
  #isOver = false;

  constructor(
    socket: Socket,
    startedMs: number,
    request: Request,
    stop: AbortSignal,
    info: (() => TcpInfo) | undefined,
  ) {
    this.#socket = socket;
    this.#startedMs = startedMs;
    this.#request = request;
    this.#info = info;
    const abort = () => {
      this.#isOver = true;
      clearTimeout(this.#timer);
      abandon(socket);
      this.#reject(stop.reason);
    };
    this.ended = new Promise<Ended>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    }).finally(() => stop.removeEventListener("abort", abort));
    stop.addEventListener("abort", abort, { once: true });
    this.#listen();
  }

  #listen(): void {
    const socket = this.#socket;
    socket.on("error", (error) => this.#fail(error));
    socket.on("data", (bytes: Buffer) => {
      if (this.#isOver || this.#request.text === undefined) return;
      this.#finish("answered", nowMs() - this.#startedMs, bytes.toString("latin1"));
    });
    socket.on("end", () => {
      this.#hasEnded = true;
      if (!this.#isOver && this.#request.text !== undefined) this.#finish("closed", undefined);
    });
    // Both FINs went by: Node has closed the descriptor by itself.
    socket.on("close", () => {
      if (this.#isOver) return;
      if (this.#hasEnded) this.#finish("established", this.#establishedMs);
      else this.#finish("reset", undefined);
    });
    if (this.#info === undefined) {
      socket.once("connect", () => this.#onEstablished());
      this.#after(limits.CONNECT_MAX, () => this.#finish("unreachable", undefined));
    } else {
      socket.resume();
      this.#onEstablished();
    }
  }

  #onEstablished(): void {
    this.#establishedMs = nowMs() - this.#startedMs;
    const { text, quietMs = 0 } = this.#request;
    if (quietMs > 0) this.#after(quietMs, () => this.#ask(text));
    else this.#ask(text);
  }

  #ask(text: string | undefined): void {
    if (text !== undefined) {
      this.#wasAsked = true;
      this.#socket.write(text, "latin1");
      this.#after(limits.ACKNOWLEDGE_MAX, () => this.#onNoAnswer());
      return;
    }
    // An ordinary connection is established when connect() says so; a half-open when its FIN is acknowledged.
    if (this.#info === undefined) {
      this.#finish("established", this.#establishedMs);
      return;
    }
    this.#socket.end(() => this.#awaitAcknowledgement(nowMs() + limits.ACKNOWLEDGE_MAX));
  }

  #awaitAcknowledgement(deadlineMs: number): void {
    if (this.#isOver || this.#socket.destroyed) return;
    if (this.#info?.().unacked === 0) this.#finish("established", this.#establishedMs);
    else if (nowMs() >= deadlineMs) this.#finish("vanished", undefined);
    else this.#after(POLL_MS, () => this.#awaitAcknowledgement(deadlineMs));
  }

  #onNoAnswer(): void {
    if (this.#info !== undefined && this.#info().bytesAcked === 0) this.#finish("vanished", undefined);
    else {
      const restMs = limits.ANSWER_MAX - limits.ACKNOWLEDGE_MAX;
      this.#after(restMs, () => this.#finish("unanswered", undefined));
    }
  }

  #fail(error: Error): void {
    if (this.#isOver) return;
    const symbol = errorSymbol(error);
    if (symbol === "ECONNREFUSED") this.#finish("refused", undefined);
    else if (symbol === "ECONNRESET" || symbol === "EPIPE") this.#finish("reset", undefined);
    else this.#finish("unreachable", undefined);
  }

  #finish(outcome: Outcome, ms: number | undefined, head = ""): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    const isGood = outcome === "answered" || outcome === "established";
    const info = isGood && !socket.destroyed ? this.#info?.() : undefined;
    const exchange = {
      outcome,
      ms,
      head,
      wasAsked: this.#wasAsked,
      // No sample is taken of what was sent twice (RFC 6298 section 3): the rtt stays 0.
      dataRttMs: info && info.rttUs > 0 ? info.rttUs / 1e3 : undefined,
      wasRepeated: info !== undefined && info.totalRetrans > 0,
    };
    const close = () => {
      clearTimeout(this.#timer);
      const ending = !isGood ? "reset" : this.#hasEnded ? "passive" : "active";
      const done = () => this.#resolve({ exchange, ending });
      if (socket.closed) done();
      else socket.once("close", done);
      if (isGood) socket.destroy();
      else abandon(socket);
    };
    if (outcome !== "answered" || this.#hasEnded) {
      close();
      return;
    }
    socket.once("end", close);
    this.#after(limits.FIN_MAX, () => {
      socket.off("end", close);
      close();
    });
  }

  #after(delayMs: number, run: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, delayMs);
  }
}
