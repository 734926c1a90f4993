/** The debt that is remembered, in ms of tokens: entries opened together are also refreshed together. */
const DEBT_MS = 500;

/** A rate limit: `perSecond` tokens a second, saved up to a tenth of a second's worth (at least one). */
export class TokenBucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #atMs: number;

  constructor(perSecond: number, nowMs: number) {
    this.#perMs = perSecond / 1e3;
    this.#burst = Math.max(1, perSecond / 10);
    this.#tokens = this.#burst;
    this.#atMs = nowMs;
  }

  /** Takes a token if there is one. */
  tryTake(nowMs: number): boolean {
    this.#fill(nowMs);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Takes a token if more than half of what can be saved up is left: for what may as well not be done. */
  trySpare(nowMs: number): boolean {
    this.#fill(nowMs);
    return this.#tokens > this.#burst / 2 && this.tryTake(nowMs);
  }

  /** Takes a token in any case; later tryTake() calls wait for the debt. */
  take(nowMs: number): void {
    this.#fill(nowMs);
    this.#tokens = Math.max(this.#tokens - 1, -DEBT_MS * this.#perMs);
  }

  /** Milliseconds until tryTake() succeeds. */
  waitMs(nowMs: number): number {
    this.#fill(nowMs);
    return this.#tokens >= 1 ? 0 : (1 - this.#tokens) / this.#perMs;
  }

  #fill(nowMs: number): void {
    this.#tokens = Math.min(this.#burst, this.#tokens + (nowMs - this.#atMs) * this.#perMs);
    this.#atMs = nowMs;
  }
}
