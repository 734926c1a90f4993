/** Lets what could repeat itself without end through once in an interval, and counts the rest. */
export class Seldom {
  readonly #intervalMs: number;
  #saidAtMs = Number.NEGATIVE_INFINITY;
  #kept = 0;

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Undefined: not now. Else how often it was not said since it was said last. */
  due(nowMs: number): number | undefined {
    if (nowMs - this.#saidAtMs < this.#intervalMs) {
      this.#kept += 1;
      return undefined;
    }
    const kept = this.#kept;
    this.#saidAtMs = nowMs;
    this.#kept = 0;
    return kept;
  }
}
