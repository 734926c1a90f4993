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
/**
 * A SYN queue that is full: at least so many new SYNs unanswered, and more than one in so many. Packet loss
 * must take a SYN or its answer and the repetition's too, so 1 % of loss leaves one in 2,500 unanswered and
 * 8 % one in 40.
 */
const FULL_COUNT = 3;
const FULL_SHARE = 40;

export class Health {
  readonly #max: number;
  #state: State = OPEN;
  #failures = 0;
  #pauses = 0;
  #ceiling: number;
  #loweredAtMs = Number.NEGATIVE_INFINITY;
  #ceilingUntilMs = 0;
  #heardAtMs = Number.NEGATIVE_INFINITY;
  #answered = 0;
  #unanswered = 0;
  #heldMax = 0;
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

  /** What the configuration allows, or less since SYNs were dropped. */
  get learntCeiling(): number {
    return this.#ceiling;
  }

  /** True when the ceiling is below what the configuration allows. */
  get isLowered(): boolean {
    return this.#ceiling < this.#max;
  }

  /** A SYN-ACK came; `held` half-opens are there now. */
  onHeard(nowMs: number, held: number): void {
    this.#countFrom(nowMs);
    this.#heardAtMs = nowMs;
    this.#heldMax = Math.max(this.#heldMax, held);
  }

  /** It was a new SYN's answer. */
  onAnswered(): void {
    this.#answered += 1;
    this.#failures = 0;
  }

  /**
   * A new SYN of `openedAtMs` and its repetition of `repeatedAtMs` were not. "silent": nothing is answered.
   * "full": others are, so its SYN queue is full and we are in it; the ceiling is half of the most it held.
   */
  onUnanswered(nowMs: number, openedAtMs: number, repeatedAtMs: number): "silent" | "full" | "lost" {
    if (openedAtMs < this.#loweredAtMs) return "lost"; // belongs to what lowered the ceiling
    this.#countFrom(nowMs);
    this.#unanswered += 1;
    const isHeard = this.#heardAtMs > repeatedAtMs;
    if (this.#answered === 0 && !isHeard) return "silent";
    const isMany = this.#unanswered >= FULL_COUNT && this.#unanswered * FULL_SHARE > this.#answered;
    if (!isHeard || !isMany) return "lost";
    this.#ceiling = Math.max(1, Math.min(this.#ceiling, this.#heldMax) >> 1);
    this.#loweredAtMs = nowMs;
    this.#ceilingUntilMs = nowMs + limits.CEILING_HOLD;
    this.#outcomesSinceMs = Number.NEGATIVE_INFINITY;
    return "full";
  }

  /** Leaves it alone for a while, longer each time. */
  backOff(nowMs: number): void {
    const waitMs = Math.min(limits.BACKOFF_MIN * 2 ** this.#failures, limits.BACKOFF_MAX);
    this.#state = { kind: "backoff", untilMs: nowMs + waitMs };
    this.#failures += 1;
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
    this.#heldMax = 0;
  }
}
