/**
 * A half-open that became a net.Socket. libuv owns the descriptor; what this class adds is what a connection needs
 * whose handshake its server has not seen the end of:
 *
 *   nothing written within ACK_AFTER ──▶ a raw ACK, repeated, so that a server which speaks first can
 *   nothing acknowledged for long    ──▶ the pool is told, then the socket fails with ETIMEDOUT
 *   a reset                          ──▶ UndeliveredError, if it proves that the connection never existed
 *   the end, however it comes        ──▶ the lease ends with it
 *
 * Read DESIGN.md section 6 first; proxy/engine/upstream-proof.ts has the same rules for sessions.
 */
import { Socket } from "node:net";
import { TCP_CLOSE, TCP_CLOSE_WAIT, TCP_LAST_ACK } from "../native/abi/tcp.ts";
import { getTcpInfo } from "../native/sockopt.ts";
import type { Ending } from "../pool/entry-table.ts";
import { sentOneSegmentOnly } from "../pool/evidence.ts";
import * as limits from "../pool/limits.ts";
import type { Lease } from "../pool/taker.ts";
import type { Server } from "./server.ts";
import { UndeliveredError } from "./undelivered.ts";

/** How long a user may say nothing before the server gets its ACK, ms. */
const ACK_AFTER = 10;
/** When to look at a connection that nothing was heard of, ms after it was taken. */
const LOOKS = [ACK_AFTER, ...limits.ACK_REPEATS, limits.FLIGHT_SILENCE] as const;
/** As undici has it for the sockets it connects. */
const BUFFER_SIZE = 65_536;

type Callback = (error?: Error | null) => void;

export class LeasedSocket extends Socket {
  readonly server: Server;
  readonly #lease: Lease;
  readonly #takenMs = performance.now();
  #silenceMaxMs: number;
  #isAckSent = false;
  /** Known once it is known who closes first. */
  #ending: Ending | undefined;
  #timer: NodeJS.Timeout;

  /**
   * Owner of the lease and its descriptor from now on. When the first flight stays unacknowledged for `silenceMaxMs` (at
   * least 3 s) the socket fails with ETIMEDOUT, as a connect would.
   */
  constructor(server: Server, lease: Lease, silenceMaxMs: number) {
    const options = { fd: lease.fd, readable: true, writable: true, highWaterMark: BUFFER_SIZE };
    super(options);
    this.server = server;
    this.#lease = lease;
    this.#silenceMaxMs = silenceMaxMs;
    this.#timer = this.#lookAt(0);
  }

  /** Something else can be done when nothing was acknowledged for 3 s: fails then. */
  failSoon(): void {
    this.#silenceMaxMs = limits.FLIGHT_SILENCE;
  }

  override _final(callback: Callback): void {
    this.#ending ??= this.#whoCloses(null);
    super._final(callback);
  }

  override _destroy(error: Error | null, callback: Callback): void {
    clearTimeout(this.#timer);
    const ending = this.#ending ?? this.#whoCloses(error);
    const close = (reason: Error | null) => {
      super._destroy(reason, callback);
      this.server.finish(this.#lease, ending);
    };
    if (error === null || !this.#mayBeUndelivered()) close(error);
    else this.#judge(error, performance.now() + limits.VERDICT_WAIT, close);
  }

  #lookAt(step: number): NodeJS.Timeout {
    const due = LOOKS[step] ?? this.#silenceMaxMs;
    const inMs = Math.max(0, this.#takenMs + due - performance.now());
    return setTimeout(() => this.#look(step), inMs).unref();
  }

  #look(step: number): void {
    const { segsOut, bytesAcked, bytesReceived } = getTcpInfo(this.#lease.fd);
    if (bytesAcked > 0 || bytesReceived > 0) {
      this.server.taker.reportFlight(true);
      return;
    }
    const isAckDue = step <= limits.ACK_REPEATS.length;
    if (isAckDue && segsOut === 0) {
      this.#isAckSent = true;
      this.server.taker.sendAck(this.#lease);
    }
    if (this.#isAckSent && !isAckDue) return; // what is written after a raw ACK is an ordinary connection's
    if (step === LOOKS.length - 1) this.server.taker.reportFlight(false);
    const isOver = step >= LOOKS.length - 1 && performance.now() - this.#takenMs >= this.#silenceMaxMs;
    if (!isOver) this.#timer = this.#lookAt(step + 1);
    else this.destroy(Object.assign(new Error(`${this.server.name} does not answer`), { code: "ETIMEDOUT" }));
  }

  /** Only who closes first has a TIME_WAIT. What the kernel no longer tells counts as ours, whose port rests longest. */
  #whoCloses(error: Error | null): Ending {
    const { state } = getTcpInfo(this.#lease.fd);
    const isPassive =
      state === TCP_CLOSE_WAIT || state === TCP_LAST_ACK || (state === TCP_CLOSE && error !== null);
    return isPassive ? "passive" : "active";
  }

  /** What must hold before the reset itself is looked at. */
  #mayBeUndelivered(): boolean {
    const { state, segsOut, bytesReceived } = getTcpInfo(this.#lease.fd);
    if (state !== TCP_CLOSE) return false;
    if (segsOut === 0) return bytesReceived === 0; // nothing was written
    return !this.#isAckSent && sentOneSegmentOnly(this.#lease.fd);
  }

  /** The keeper heard the reset first, but may have to be scheduled. The descriptor stays open meanwhile. */
  #judge(error: Error, untilMs: number, close: (reason: Error) => void): void {
    const verdict = this.server.taker.verdict(this.#lease);
    if (verdict === "none" && performance.now() < untilMs) {
      setTimeout(() => this.#judge(error, untilMs, close), limits.VERDICT_POLL);
      return;
    }
    if (verdict !== "unborn") {
      close(error);
      return;
    }
    this.server.distrust();
    close(new UndeliveredError(this.server.name, error));
  }
}
