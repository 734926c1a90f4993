/**
 * How many half-opens to keep: what may arrive while one is refilled (a round trip), plus the burst seen
 * lately. Arrivals are counted in windows as long as a refill; two neighbours together bound any window
 * of that length, so their sum's peak is both at once. The peak halves every DEMAND_HALF_LIFE; while there is one,
 * at least ACTIVE_MIN are kept.
 */
import { DEMAND_HALF_LIFE } from "./limits.ts";

const HEADROOM = 1.5;
/** Of a large peak, which varies by its square root (Poisson), this many standard deviations are enough. */
const DEVIATIONS = 3;
/** Who comes at all may come in a burst, which is only known afterwards. */
const ACTIVE_MIN = 5;
/** Below this the peak counts as gone, so that an idle pool falls to min. */
const PEAK_MIN = 0.5;

/** What a demand goes on from in another process; `atMs` is of clock.nowMs(). */
export interface DemandMemory {
  readonly peak: number;
  readonly atMs: number;
}

export class Demand {
  #windowStartsMs = 0;
  #windowEndsMs = 0;
  #perMs = 0;
  #current = 0;
  #previous = 0;
  #peak: number;
  #peakAtMs: number;

  /** Begins at `nowMs` as if `arrivals` had come: who starts a proxy has clients. */
  constructor(nowMs: number, arrivals = 1) {
    this.#peak = arrivals;
    this.#peakAtMs = nowMs;
  }

  get memory(): DemandMemory {
    return { peak: this.#peak, atMs: this.#peakAtMs };
  }

  remember({ peak, atMs }: DemandMemory): void {
    this.#peak = peak;
    this.#peakAtMs = atMs;
  }

  /**
   * Counts `arrivals` connections wanted in the `spanMs` before `nowMs`; a refill takes `refillMs`. What came
   * while the keeper was late is a row, of which a window sees its part, and no burst.
   */
  note(arrivals: number, nowMs: number, refillMs: number, spanMs = 0): void {
    this.#roll(nowMs, refillMs);
    this.#current += arrivals * Math.min(1, refillMs / spanMs);
    const burst = this.#previous + this.#current;
    if (burst >= this.#decayed(nowMs)) {
      this.#peak = burst;
      this.#peakAtMs = nowMs;
    }
  }

  /** The number to keep, unbounded: callers clamp it between their min and max. */
  wanted(nowMs: number): number {
    const peak = this.#decayed(nowMs);
    if (peak < PEAK_MIN) return 0;
    const wanted = Math.min(peak * HEADROOM, peak + DEVIATIONS * Math.sqrt(peak));
    return Math.max(ACTIVE_MIN, Math.ceil(wanted));
  }

  /** Arrivals per ms in the last whole window. */
  get perMs(): number {
    return this.#perMs;
  }

  #decayed(nowMs: number): number {
    return this.#peak * 2 ** (-(nowMs - this.#peakAtMs) / DEMAND_HALF_LIFE);
  }

  #roll(nowMs: number, refillMs: number): void {
    if (nowMs < this.#windowEndsMs) return;
    this.#previous = nowMs < this.#windowEndsMs + refillMs ? this.#current : 0;
    this.#perMs = this.#current / (nowMs - this.#windowStartsMs);
    this.#current = 0;
    this.#windowStartsMs = nowMs;
    this.#windowEndsMs = nowMs + refillMs;
  }
}
