/**
 * What all threads know of a server of an upstream: how many sessions it has, and whether it is used.
 *
 *   used ──FAILURES_MAX connects fail in a row──▶ ejected ──time──▶ one session tries it ──connected──▶ used
 *                                                    ▲                      └──failed, twice the time──┐
 *                                                    └──────────────────────────────────────────────────┘
 *
 * Beside that, and whatever it says: unhealthy, as the active checks found it (checks.ts). There is no lock. A word
 * that decides something changes by compare-and-swap, so that of all threads one makes the change and says so.
 */
import { ageMs32 } from "../../native/clock.ts";
import * as limits from "./limits.ts";

const WORD = {
  active: 0,
  unhealthy: 1, // 1: its checks fail
  checked: 2, // 1: one check is over
  failures: 3, // failed connects in a row
  retryAt: 4, // ejected until then, nowMs32(), odd; 0: not ejected
  trials: 5, // failed trials since it was ejected
  failed: 6, // failed connects, all
  ejections: 7,
} as const;
const WORDS = 8;

export const SERVER_STATES = ["up", "ejected", "unhealthy"] as const;
export type ServerCondition = (typeof SERVER_STATES)[number];

export class ServerState {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer = new SharedArrayBuffer(WORDS * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  /** Sessions that have a place here. */
  get active(): number {
    return this.#get("active");
  }

  get condition(): ServerCondition {
    if (this.isUnhealthy) return "unhealthy";
    return this.#get("retryAt") === 0 ? "up" : "ejected";
  }

  get failed(): number {
    return this.#get("failed") >>> 0;
  }

  get ejections(): number {
    return this.#get("ejections") >>> 0;
  }

  /** Takes a place, if fewer than `max` are taken; 0: no limit. */
  enter(max: number): boolean {
    for (;;) {
      const { active } = this;
      if (max > 0 && active >= max) return false;
      if (Atomics.compareExchange(this.#words, WORD.active, active, active + 1) === active) return true;
    }
  }

  /** Takes a place whatever the limit: for a session that comes with its connection. */
  admit(): void {
    Atomics.add(this.#words, WORD.active, 1);
  }

  leave(): void {
    Atomics.sub(this.#words, WORD.active, 1);
  }

  // --- passive: what became of connects -------------------------------------------------------------------------

  /** "due": ejected, and time to try it. */
  usability(nowMs32: number): "used" | "due" | "out" {
    if (this.isUnhealthy) return "out";
    const retryAt = this.#get("retryAt");
    if (retryAt === 0) return "used";
    return ageMs32(nowMs32, retryAt) >= 0 ? "due" : "out";
  }

  /** True: the caller is the one to try it. Nobody else is until the time that begins now is over. */
  claimTrial(nowMs32: number): boolean {
    const retryAt = this.#get("retryAt");
    if (retryAt === 0 || ageMs32(nowMs32, retryAt) < 0) return retryAt === 0;
    const waitMs = Math.min(limits.EJECTION_MIN * 2 ** (this.#get("trials") + 1), limits.EJECTION_MAX);
    const next = (nowMs32 + waitMs) | 1;
    if (Atomics.compareExchange(this.#words, WORD.retryAt, retryAt, next) !== retryAt) return false;
    Atomics.add(this.#words, WORD.trials, 1);
    return true;
  }

  /** It accepted a connection. True when that ended its ejection. */
  onReached(): boolean {
    if (this.#get("failures") !== 0) Atomics.store(this.#words, WORD.failures, 0);
    if (this.#get("retryAt") === 0) return false;
    Atomics.store(this.#words, WORD.trials, 0);
    return Atomics.exchange(this.#words, WORD.retryAt, 0) !== 0;
  }

  /** It did not. True when that ejected it. */
  onFailed(nowMs32: number): boolean {
    Atomics.add(this.#words, WORD.failed, 1);
    const failures = Atomics.add(this.#words, WORD.failures, 1) + 1;
    if (failures < limits.FAILURES_MAX || this.#get("retryAt") !== 0) return false;
    const retryAt = (nowMs32 + limits.EJECTION_MIN) | 1;
    if (Atomics.compareExchange(this.#words, WORD.retryAt, 0, retryAt) !== 0) return false;
    Atomics.add(this.#words, WORD.ejections, 1);
    return true;
  }

  // --- active: what checks found; only the main thread changes it -------------------------------------------------

  get isUnhealthy(): boolean {
    return this.#get("unhealthy") === 1;
  }

  set isUnhealthy(isUnhealthy: boolean) {
    Atomics.store(this.#words, WORD.unhealthy, isUnhealthy ? 1 : 0);
  }

  /** True for the first check of the server, whoever makes it. */
  beginChecked(): boolean {
    return Atomics.exchange(this.#words, WORD.checked, 1) === 0;
  }

  #get(field: keyof typeof WORD): number {
    return Atomics.load(this.#words, WORD[field]);
  }
}
