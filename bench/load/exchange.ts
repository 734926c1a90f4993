/**
 * One HTTP/1.1 request over a connection of its own, on a bare socket: a client library would add its own time
 * to what is measured. The answer is checked to the last byte.
 */
import { connect, Socket } from "node:net";
import { connectFastOpen } from "../../native/net/fast-open.ts";

export interface Target {
  readonly host: string;
  readonly port: number;
  /** The request rides on the SYN where the kernel has a cookie of the server (RFC 7413). */
  readonly fastOpen?: boolean;
}

/** The request of a run: made once, sent many times. */
export interface Request {
  readonly bytes: Buffer;
  /** The body that must come back. */
  readonly expected: Buffer;
  readonly timeoutMs: number;
}

/** How an exchange went. Times are performance.now(). */
export interface Outcome {
  readonly sentAt: number;
  readonly firstByteAt: number;
  readonly lastByteAt: number;
  /** Undefined when the answer was right and whole. */
  readonly error: string | undefined;
}

const HEAD_END = Buffer.from("\r\n\r\n");
const HEAD_BYTES_MAX = 16_384;

/** The request for `GET /LENGTH` of the origin in origin.ts. */
export function requestFor(target: Target, expected: Buffer, timeoutMs: number): Request {
  const host = target.host.includes(":") ? `[${target.host}]` : target.host;
  const head = `GET /${expected.length} HTTP/1.1\r\nHost: ${host}:${target.port}\r\nConnection: close\r\n\r\n`;
  return { bytes: Buffer.from(head), expected, timeoutMs };
}

/** Begins an exchange at once; `onEnd` is called exactly once, when its last byte came or it failed. */
export function exchange(target: Target, request: Request, onEnd: (outcome: Outcome) => void): void {
  new Exchange(target, request, onEnd);
}

class Exchange {
  readonly #socket: Socket;
  readonly #expected: Buffer;
  readonly #onEnd: (outcome: Outcome) => void;
  readonly #timer: NodeJS.Timeout;
  readonly #sentAt = performance.now();
  #firstByteAt = Number.NaN;
  #head: Buffer | undefined = Buffer.alloc(0);
  #received = 0;
  #isOver = false;

  constructor(target: Target, request: Request, onEnd: (outcome: Outcome) => void) {
    this.#expected = request.expected;
    this.#onEnd = onEnd;
    this.#socket = target.fastOpen
      ? new Socket({ fd: connectFastOpen({ address: target.host, port: target.port }) })
      : connect({ host: target.host, port: target.port, noDelay: true });
    this.#socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on("end", () => this.#finish("connection closed before the answer was whole"));
    this.#socket.on("error", (error) => this.#finish("code" in error ? String(error.code) : error.message));
    this.#timer = setTimeout(() => this.#finish("timeout"), request.timeoutMs);
    this.#socket.write(request.bytes);
  }

  #receive(chunk: Buffer): void {
    if (this.#isOver) return;
    const now = performance.now();
    if (Number.isNaN(this.#firstByteAt)) this.#firstByteAt = now;
    const body = this.#head === undefined ? chunk : this.#readHead(this.#head, chunk);
    if (body === undefined) return;
    const end = this.#received + body.length;
    if (end > this.#expected.length || !this.#expected.subarray(this.#received, end).equals(body)) {
      this.#finish("wrong bytes");
      return;
    }
    this.#received = end;
    if (end === this.#expected.length) this.#finish(undefined, now);
  }

  /** Returns what follows the head, or undefined while it is not whole or when it is not what we want. */
  #readHead(before: Buffer, chunk: Buffer): Buffer | undefined {
    const all = before.length === 0 ? chunk : Buffer.concat([before, chunk]);
    const end = all.indexOf(HEAD_END);
    if (end < 0) {
      this.#head = all;
      if (all.length > HEAD_BYTES_MAX) this.#finish("no HTTP answer");
      return undefined;
    }
    this.#head = undefined;
    const head = all.toString("latin1", 0, end);
    const status = /^HTTP\/1\.1 (\d{3})/.exec(head)?.[1];
    const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
    if (status === "200" && Number(length) === this.#expected.length) return all.subarray(end + 4);
    this.#finish(status === "200" ? `content-length ${length}` : `status ${status}`);
    return undefined;
  }

  #finish(error: string | undefined, now = performance.now()): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    // A whole answer is left to the server's FIN, which it sends first; anything else is cut off.
    if (error === undefined) this.#socket.resume();
    else this.#socket.destroy();
    this.#onEnd({ sentAt: this.#sentAt, firstByteAt: this.#firstByteAt, lastByteAt: now, error });
  }
}
