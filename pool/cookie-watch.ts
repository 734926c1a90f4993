/**
 * Does the upstream answer SYNs with cookies? A listener that keeps state re-sends its SYN-ACK after 1 s;
 * one that made a cookie has forgotten us. So now and then one entry, the canary, is left unrefreshed:
 *
 *   SYN-ACK again, unasked, same irs   → stateful
 *   silence, then our SYN again:
 *     another irs                      → stateful, with tcp_synack_retries = 0
 *     the same irs                     → cookies, or the SYN-ACK was lost: a second canary decides
 */

import { CANARY_INTERVAL, SYNACK_TIMEOUT } from "./limits.ts";
import type { LiveEntry } from "./live-entry.ts";
import type { RttEstimator } from "./rtt.ts";

export type Finding = "stateful" | "cookies" | "unknown";

const SIGHTINGS_NEEDED = 2;

export class CookieWatch {
  readonly #rtt: RttEstimator;
  #canary: LiveEntry | undefined;
  #dueMs = 0;
  #sightings = 0;

  constructor(rtt: RttEstimator) {
    this.#rtt = rtt;
  }

  /** The entry left unrefreshed now; it is not offered. */
  get canary(): LiveEntry | undefined {
    return this.#canary;
  }

  due(nowMs: number): boolean {
    return this.#canary === undefined && nowMs >= this.#dueMs;
  }

  /** There is reason to look now. */
  suspect(nowMs: number): void {
    this.#dueMs = nowMs;
  }

  /** Makes `entry` the canary. Returns when to send its SYN again if nothing came. */
  start(entry: LiveEntry, nowMs: number, synackAtMs: number): number {
    this.#canary = entry;
    this.#dueMs = nowMs + CANARY_INTERVAL;
    return synackAtMs + SYNACK_TIMEOUT + this.#rtt.answerWithinMs() + 100;
  }

  /** A SYN-ACK for the canary; `solicited` when we had sent its SYN again. Undefined: nothing learnt yet. */
  onAnswer(sameIrs: boolean, solicited: boolean): Finding | undefined {
    if (!sameIrs) return "stateful";
    return solicited ? "cookies" : "stateful";
  }

  /** Ends the canary. True: the upstream uses cookies; false: it does not; undefined: not known yet. */
  end(finding: Finding, nowMs: number): boolean | undefined {
    this.#canary = undefined;
    if (finding === "unknown") return undefined;
    if (finding === "stateful") {
      this.#sightings = 0;
      return false;
    }
    this.#sightings += 1;
    if (this.#sightings >= SIGHTINGS_NEEDED) return true;
    this.#dueMs = nowMs;
    return undefined;
  }

  /** The canary ended some other way. */
  forget(entry: LiveEntry): void {
    if (this.#canary === entry) this.#canary = undefined;
  }
}
