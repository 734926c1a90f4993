import { BUDGET_WAIT } from "./limits.ts";
import { TokenBucket } from "./token-bucket.ts";

/** What pools of learned destinations may use together. */
export interface BudgetSpec {
  /** Pools with the same name share it. */
  readonly name: string;
  readonly maxHalfOpen: number;
  /** SYNs a second, repetitions included. */
  readonly maxSynRate: number;
}

/** What is used of a budget. */
export class Budget {
  readonly bucket: TokenBucket;
  readonly #maxHalfOpen: number;
  halfOpen = 0;

  constructor({ maxHalfOpen, maxSynRate }: BudgetSpec, nowMs: number) {
    this.bucket = new TokenBucket(maxSynRate, nowMs);
    this.#maxHalfOpen = maxHalfOpen;
  }

  get hasRoom(): boolean {
    return this.halfOpen < this.#maxHalfOpen;
  }
}

/** The SYNs of one pool: its own rate, and where it shares a budget also that. As TokenBucket otherwise. */
export class SynAllowance {
  readonly #own: TokenBucket;
  readonly #budget: Budget | undefined;
  #held = 0;

  constructor(perSecond: number, budget: Budget | undefined, nowMs: number) {
    this.#own = new TokenBucket(perSecond, nowMs);
    this.#budget = budget;
  }

  /** The pool holds so many half-opens now; told whenever that has changed. */
  hold(held: number): number {
    if (this.#budget) this.#budget.halfOpen += held - this.#held;
    this.#held = held;
    return held;
  }

  /** A SYN for another half-open beside `held`; when there is one, it counts. */
  tryTake(nowMs: number, held: number): boolean {
    this.hold(held);
    if (!this.#mayShare(nowMs) || !this.#own.tryTake(nowMs)) return false;
    this.hold(held + 1);
    return this.#share(nowMs);
  }

  trySpare(nowMs: number): boolean {
    return (this.#budget?.bucket.waitMs(nowMs) ?? 0) === 0 && this.#own.trySpare(nowMs) && this.#share(nowMs);
  }

  take(nowMs: number): void {
    this.#own.take(nowMs);
    this.#share(nowMs);
  }

  waitMs(nowMs: number): number {
    const shared = this.#budget?.hasRoom === false ? BUDGET_WAIT : (this.#budget?.bucket.waitMs(nowMs) ?? 0);
    return Math.max(this.#own.waitMs(nowMs), shared);
  }

  #mayShare(nowMs: number): boolean {
    return this.#budget === undefined || (this.#budget.hasRoom && this.#budget.bucket.waitMs(nowMs) === 0);
  }

  #share(nowMs: number): true {
    this.#budget?.bucket.take(nowMs);
    return true;
  }
}
