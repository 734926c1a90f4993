import { LabError } from "./lab-error.ts";
import { Random } from "./random.ts";

/** What one direction of a link does to packets. Probabilities are 0 to 1, times milliseconds. */
export interface ImpairmentSettings {
  /** One-way delay. */
  readonly delayMs: number;
  /** Adds a uniform -jitterMs to +jitterMs to the delay, never below 0. Alone it does not reorder. */
  readonly jitterMs: number;
  /** Share of packets lost. */
  readonly loss: number;
  /** Share of packets held back by `reorderMs`, so that those behind them overtake. */
  readonly reorder: number;
  readonly reorderMs: number;
  /** Share of packets that arrive twice. */
  readonly duplicate: number;
  /** Serialization: packets leave one after the other at this rate. 0: no limit. */
  readonly rateBytesPerSecond: number;
  /** False: the cable is cut; every packet vanishes without a trace. */
  readonly up: boolean;
  /** Setting it starts the random numbers again; the two directions of a link draw different ones. */
  readonly seed: number;
}

export const NO_IMPAIRMENT: ImpairmentSettings = {
  delayMs: 0,
  jitterMs: 0,
  loss: 0,
  reorder: 0,
  reorderMs: 2,
  duplicate: 0,
  rateBytesPerSecond: 0,
  up: true,
  seed: 1,
};

/** What becomes of a packet. `late` ones stand outside the order of the others. */
export interface Verdict {
  fate: "deliver" | "lose" | "cut";
  dueMs: number;
  late: boolean;
  copies: number;
}

/**
 * Decides when each packet of one direction leaves, from settings, seeded random numbers and the packets
 * before it. Knows no clock: the caller says when a packet entered.
 */
export class Impairment {
  #settings: ImpairmentSettings = NO_IMPAIRMENT;
  readonly #stream: number;
  #loss = new Random(0);
  #jitter = new Random(0);
  #reorder = new Random(0);
  #duplicate = new Random(0);
  /** Packets in order never leave before the one ahead of them. */
  #lastDueMs = 0;
  #lineFreeAtMs = 0;
  /** Reused, so that a packet costs no allocation. */
  readonly #verdict: Verdict = { fate: "deliver", dueMs: 0, late: false, copies: 1 };

  /** `stream` tells apart directions with the same seed. */
  constructor(stream = 0) {
    this.#stream = stream;
    this.#seed(NO_IMPAIRMENT.seed);
  }

  get settings(): ImpairmentSettings {
    return this.#settings;
  }

  /**
   * Changes some settings; packets already on their way keep their time, and a shorter delay takes hold
   * behind them, because it must not reorder. Throws LabError ACCEL_LAB_USAGE for values out of range.
   */
  set(change: Partial<ImpairmentSettings>): void {
    const settings = { ...this.#settings, ...change };
    for (const name of ["loss", "reorder", "duplicate"] as const) require01(name, settings[name]);
    for (const name of ["delayMs", "jitterMs", "reorderMs"] as const) requireTime(name, settings[name]);
    if (!(settings.rateBytesPerSecond >= 0)) {
      throw new LabError("ACCEL_LAB_USAGE", `rateBytesPerSecond ${settings.rateBytesPerSecond} is below 0`);
    }
    this.#settings = settings;
    if (change.seed !== undefined) this.#seed(change.seed);
  }

  /** Decides about a packet of `lengthBytes` that entered at `nowMs`. The answer is valid until the next call. */
  schedule(nowMs: number, lengthBytes: number): Verdict {
    const { delayMs, jitterMs, loss, reorder, reorderMs, duplicate, rateBytesPerSecond, up } = this.#settings;
    const verdict = this.#verdict;
    verdict.fate = up ? (loss > 0 && this.#loss.next() < loss ? "lose" : "deliver") : "cut";
    if (verdict.fate !== "deliver") return verdict;

    let leavesMs = nowMs;
    if (rateBytesPerSecond > 0) {
      this.#lineFreeAtMs = Math.max(nowMs, this.#lineFreeAtMs) + (lengthBytes / rateBytesPerSecond) * 1000;
      leavesMs = this.#lineFreeAtMs;
    }
    const jitter = jitterMs > 0 ? (this.#jitter.next() * 2 - 1) * jitterMs : 0;
    const dueMs = leavesMs + Math.max(0, delayMs + jitter);
    verdict.late = reorder > 0 && this.#reorder.next() < reorder;
    verdict.copies = duplicate > 0 && this.#duplicate.next() < duplicate ? 2 : 1;
    verdict.dueMs = verdict.late ? dueMs + reorderMs : Math.max(dueMs, this.#lastDueMs);
    if (!verdict.late) this.#lastDueMs = verdict.dueMs;
    return verdict;
  }

  #seed(seed: number): void {
    const base = seed * 16 + this.#stream * 4;
    this.#loss = new Random(base);
    this.#jitter = new Random(base + 1);
    this.#reorder = new Random(base + 2);
    this.#duplicate = new Random(base + 3);
  }
}

function require01(name: string, value: number): void {
  if (value >= 0 && value <= 1) return;
  throw new LabError("ACCEL_LAB_USAGE", `${name} ${value} is not between 0 and 1`);
}

function requireTime(name: string, value: number): void {
  if (value >= 0 && value < 3_600_000) return;
  throw new LabError("ACCEL_LAB_USAGE", `${name} ${value} is not between 0 and an hour`);
}
