/**
 * What a destination lets us hold. A state, and a ceiling learnt from SYNs it dropped; no I/O, no clock.
 *
 *   open ──(RST, silence)──────────────▶ backoff ──(time)──▶ open, one entry first
 *   open ──(first flights into silence)─▶ blackholed ──(time)──▶ open
 */
import * as limits from "./limits.ts";

type State =
  | { readonly kind: "open" }
  | { readonly kind: "backoff"; readonly untilMs: number }
  | { readonly kind: "blackholed"; readonly untilMs: number };

const OPEN: State = { kind: "open" };
const OUTCOME_WINDOW = 5_000;

export class Health {
  readonly #max: number;
  #state: State = OPEN;
  #failures = 0;
  #pauses = 0;
  #ceiling: number;
  #ceilingUntilMs = 0;
  #answered = 0;
  #unanswered = 0;
  #outcomesSinceMs = 0;

  constructor(max: number) {
    this.#max = max;
    this.#ceiling = max;
  }

  get isOpen(): boolean {
    return this.#state.kind === "open";
  }

  /** When the state ends by itself; Infinity while open. */
  get untilMs(): number {
    return this.#state.kind === "open" ? Number.POSITIVE_INFINITY : this.#state.untilMs;
  }

  /** The most half-opens it bears: a learnt ceiling, one while its last answer was none. */
  get ceiling(): number {
    return this.#failures > 0 ? Math.min(1, this.#ceiling) : this.#ceiling;
  }

  /** True when the ceiling is below what the configuration allows. */
  get isLowered(): boolean {
    return this.#ceiling < this.#max;
  }

  /** A new SYN was answered. */
  onAnswered(nowMs: number): void {
    this.#countFrom(nowMs);
    this.#answered += 1;
    this.#failures = 0;
  }

  /**
   * A new SYN and its repetition were not, with `held` half-opens there. "silent": nothing is answered.
   * "full": others are, so its SYN queue is full and we are in it; the ceiling is half of what we held.
   */
  onUnanswered(nowMs: number, held: number): "silent" | "full" | "lost" {
    this.#countFrom(nowMs);
    this.#unanswered += 1;
    if (this.#answered === 0) return "silent";
    if (this.#unanswered < 2 || this.#unanswered <= this.#answered) return "lost";
    this.#ceiling = Math.max(1, Math.min(this.#ceiling, held >> 1));
    this.#ceilingUntilMs = nowMs + limits.CEILING_HOLD;
    this.#outcomesSinceMs = Number.NEGATIVE_INFINITY;
    return "full";
  }

  /** Leaves it alone for a while, longer each time. True for the first failure in a row. */
  backOff(nowMs: number): boolean {
    const waitMs = Math.min(limits.BACKOFF_MIN * 2 ** this.#failures, limits.BACKOFF_MAX);
    this.#state = { kind: "backoff", untilMs: nowMs + waitMs };
    this.#failures += 1;
    return this.#failures === 1;
  }

  /** First flights vanish: no half-opens for the returned ms, twice as long each time. */
  pause(nowMs: number): number {
    const pauseMs = Math.min(limits.BLACKHOLE_PAUSE_MIN * 2 ** this.#pauses, limits.BLACKHOLE_PAUSE_MAX);
    this.#pauses += 1;
    this.#state = { kind: "blackholed", untilMs: nowMs + pauseMs };
    return pauseMs;
  }

  /** Lets time pass. Returns the state that ended now, if any. */
  tick(nowMs: number): "backoff" | "blackholed" | undefined {
    const state = this.#state;
    if (state.kind === "open") {
      if (this.isLowered && nowMs >= this.#ceilingUntilMs) {
        this.#ceiling = Math.min(this.#max, this.#ceiling + Math.max(1, this.#ceiling >> 2));
        this.#ceilingUntilMs = nowMs + limits.CEILING_HOLD;
      }
      return undefined;
    }
    if (nowMs < state.untilMs) return undefined;
    this.#state = OPEN;
    return state.kind;
  }

  #countFrom(nowMs: number): void {
    if (nowMs - this.#outcomesSinceMs <= OUTCOME_WINDOW) return;
    this.#outcomesSinceMs = nowMs;
    this.#answered = 0;
    this.#unanswered = 0;
  }
}
