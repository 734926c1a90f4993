/**
 * How many half-opens to keep: what may arrive while one is refilled (a round trip), plus the burst seen
 * lately. Arrivals are counted in windows as long as a refill; two neighbours together bound any window
 * of that length, so their sum's peak is both at once. The peak halves every DEMAND_HALF_LIFE; while there is one,
 * at least ACTIVE_MIN are kept.
 */
import { DEMAND_HALF_LIFE } from "./limits.ts";

const HEADROOM = 1.5;
/** Who comes at all may come in a burst, which is only known afterwards. */
const ACTIVE_MIN = 5;
/** Below this the peak counts as gone, so that an idle pool falls to min. */
const PEAK_MIN = 0.5;

export class Demand {
  #windowEndsMs = 0;
  #current = 0;
  #previous = 0;
  #peak = 1;
  #peakAtMs: number;

  /** Begins at `nowMs` as if a connection had come: who starts a proxy has clients. */
  constructor(nowMs: number) {
    this.#peakAtMs = nowMs;
  }

  /** Counts `arrivals` connections wanted at `nowMs`, with refills taking `refillMs`. */
  note(arrivals: number, nowMs: number, refillMs: number): void {
    this.#roll(nowMs, refillMs);
    this.#current += arrivals;
    const burst = this.#previous + this.#current;
    if (burst >= this.#decayed(nowMs)) {
      this.#peak = burst;
      this.#peakAtMs = nowMs;
    }
  }

  /** The number to keep, unbounded: callers clamp it between their min and max. */
  wanted(nowMs: number): number {
    const peak = this.#decayed(nowMs);
    return peak < PEAK_MIN ? 0 : Math.max(ACTIVE_MIN, Math.ceil(peak * HEADROOM));
  }

  #decayed(nowMs: number): number {
    return this.#peak * 2 ** (-(nowMs - this.#peakAtMs) / DEMAND_HALF_LIFE);
  }

  #roll(nowMs: number, refillMs: number): void {
    if (nowMs < this.#windowEndsMs) return;
    this.#previous = nowMs < this.#windowEndsMs + refillMs ? this.#current : 0;
    this.#current = 0;
    this.#windowEndsMs = nowMs + refillMs;
  }
}
