/**
 * The body of a request on its way: its beginning is kept until it is known that it arrived, so that another connection can
 * have it again; what comes later is passed on as fast as the upstream takes it.
 *
 *   collecting ──send()──▶ sending ──detach()──▶ collecting          kept: what was read so far, up to BODY_KEPT_MAX
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import * as limits from "./limits.ts";
import { type Framing, trailerFields } from "./request-head.ts";

export class RequestBody {
  readonly #request: IncomingMessage;
  readonly #framing: Framing;
  #kept: Buffer[] = [];
  #bytes = 0;
  /** All that came was kept. */
  #isWhole = true;
  #hasEnded: boolean;
  #isUnwanted = false;
  #out: ClientRequest | undefined;
  #onChange: (() => void) | undefined;

  constructor(request: IncomingMessage, framing: Framing) {
    this.#request = request;
    this.#framing = framing;
    this.#hasEnded = framing === "none" || framing === 0;
    if (this.#hasEnded) {
      request.resume();
      return;
    }
    request.on("data", (chunk: Buffer) => this.#onData(chunk));
    request.on("end", () => this.#onEnd());
  }

  /** Bytes that came from the client. */
  get bytes(): number {
    return this.#bytes;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Another connection can have it from its first byte on. */
  get isRepeatable(): boolean {
    return this.#isWhole;
  }

  /** Resolves when a small body is complete, a larger one has begun, or after `limitMs`. */
  ready(limitMs: number): Promise<void> {
    const isSmall = typeof this.#framing === "number" && this.#framing <= limits.SMALL_BODY_MAX;
    const isReady = (): boolean => this.#hasEnded || (!isSmall && this.#bytes > 0);
    if (isReady()) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#onChange = undefined;
        resolve();
      };
      const timer = setTimeout(done, limitMs);
      this.#onChange = () => {
        if (isReady()) done();
      };
    });
  }

  /** Sends what there is, with the head of `out` in front of it, and what comes. */
  send(out: ClientRequest): void {
    this.#out = out;
    for (const chunk of this.#kept) out.write(chunk);
    if (!this.#isWhole) this.#kept = [];
    if (this.#hasEnded) this.#finish(out);
    else {
      if (this.#bytes === 0) out.flushHeaders();
      out.on("drain", () => {
        if (this.#out === out) this.#request.resume();
      });
      this.#request.resume();
    }
  }

  /** The connection failed: what comes now waits for another. */
  detach(): void {
    this.#out = undefined;
  }

  /** The request arrived: nothing has to be kept any longer. */
  forget(): void {
    this.#isWhole = false;
    this.#kept = [];
  }

  /** Nobody wants it any more: what is left of it is read for a while, so that the client hears the answer. */
  discard(): void {
    this.forget();
    this.#out = undefined;
    this.#isUnwanted = true;
    if (this.#hasEnded) return;
    const limit = setTimeout(() => this.#request.destroy(), limits.DISCARD_LIMIT).unref();
    this.#request.once("close", () => clearTimeout(limit)).resume();
  }

  #onData(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#isUnwanted) return;
    const out = this.#out;
    if (this.#isWhole) this.#kept.push(chunk);
    if (this.#isWhole && this.#bytes > limits.BODY_KEPT_MAX && out !== undefined) this.forget();
    const isTaken = out === undefined ? this.#bytes < limits.BODY_KEPT_MAX : out.write(chunk);
    if (!isTaken) this.#request.pause();
    this.#onChange?.();
  }

  #onEnd(): void {
    this.#hasEnded = true;
    if (this.#out !== undefined) this.#finish(this.#out);
    this.#onChange?.();
  }

  #finish(out: ClientRequest): void {
    if (this.#framing === "chunked") out.addTrailers(trailerFields(this.#request.rawTrailers));
    out.end();
  }
}
