import { setTimeout as delay } from "node:timers/promises";
import { nowMs } from "../../native/clock.ts";
import { SYN_INTERVAL } from "./limits.ts";

/** Turns to send a SYN, for all who send SYNs that no pool counts. */
export class Pacer {
  #nextMs = 0;

  /** Resolves when a SYN may go out. Rejects when `stop` aborts. */
  async turn(stop: AbortSignal): Promise<void> {
    const atMs = Math.max(nowMs(), this.#nextMs);
    this.#nextMs = atMs + SYN_INTERVAL;
    await pause(atMs - nowMs(), stop);
  }
}

/** Resolves after `delayMs`; rejects when `stop` aborts, before too. */
export async function pause(delayMs: number, stop: AbortSignal): Promise<void> {
  stop.throwIfAborted();
  // Node's timers may fire up to 1 ms early.
  if (delayMs > 0) await delay(Math.ceil(delayMs) + 1, undefined, { signal: stop });
}

/** Resolves with what `found` returns as soon as that is defined, or with undefined after `limitMs`. */
export async function until<T>(
  found: () => T | undefined,
  limitMs: number,
  intervalMs: number,
  stop: AbortSignal,
): Promise<T | undefined> {
  const deadlineMs = nowMs() + limitMs;
  for (;;) {
    const value = found();
    if (value !== undefined || nowMs() >= deadlineMs) return value;
    await pause(intervalMs, stop);
  }
}
