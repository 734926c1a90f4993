/** Round-trip estimation of one destination from SYN → SYN-ACK (RFC 6298 section 2, without its 1 s floor). */
/** What an estimator knows, ms; zeros before the first sample. */
export interface RttMemory {
  readonly srttMs: number;
  readonly rttvarMs: number;
  readonly minMs: number;
}

export class RttEstimator {
  #srttMs = 0;
  #rttvarMs = 0;
  #minMs = Number.POSITIVE_INFINITY;

  get memory(): RttMemory {
    return { srttMs: this.#srttMs, rttvarMs: this.#rttvarMs, minMs: this.known ? this.#minMs : 0 };
  }

  remember({ srttMs, rttvarMs, minMs }: RttMemory): void {
    if (srttMs <= 0) return;
    this.#srttMs = srttMs;
    this.#rttvarMs = rttvarMs;
    this.#minMs = minMs;
  }

  get known(): boolean {
    return this.#srttMs > 0;
  }

  /** Smoothed RTT, ms; 0 before the first sample. */
  get srttMs(): number {
    return this.#srttMs;
  }

  sample(rttMs: number): void {
    if (!(rttMs >= 0)) return;
    const rtt = Math.max(rttMs, 0.001);
    this.#minMs = Math.min(this.#minMs * 1.001, rtt); // forgets a path that was shorter
    if (this.#srttMs === 0) {
      this.#srttMs = rtt;
      this.#rttvarMs = rtt / 2;
      return;
    }
    this.#rttvarMs += (Math.abs(this.#srttMs - rtt) - this.#rttvarMs) / 4;
    this.#srttMs += (rtt - this.#srttMs) / 8;
  }

  /** An answer this long after its SYN is still that SYN's; a later one came from the upstream's own timer. */
  answerWithinMs(): number {
    return this.#srttMs + Math.max(4 * this.#rttvarMs, 30) + 20;
  }

  /** An answer cannot come sooner than this after the SYN that drew it. */
  answerAfterMs(): number {
    return this.known ? this.#minMs / 2 - 1 : 0;
  }
}
