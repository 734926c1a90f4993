/** When to send a SYN again, and until when an entry may be leased: pure functions of the RTT. Times are ms. */
import * as limits from "./limits.ts";
import type { RttEstimator } from "./rtt.ts";

/** Room for jitter between the answer of one refresh and the end of the lease window it extends. */
const REFRESH_MARGIN = 60;

/** From a SYN to its repetition, so that each answer comes before the lease window of the last one ends. */
export function refreshInterval(srttMs: number): number {
  const latest = limits.SYNACK_TIMEOUT - limits.LEASE_MARGIN - srttMs - REFRESH_MARGIN;
  return Math.max(limits.REFRESH_INTERVAL_MIN, Math.min(limits.REFRESH_INTERVAL, latest));
}

/**
 * From an entry's first SYN to the second: at random up to this much less, so that entries opened together
 * are not all unanswered at one time. `random` is 0 to 1.
 */
export function firstRefreshInterval(srttMs: number, random: number): number {
  const longest = refreshInterval(srttMs);
  return longest - random * Math.max(0, longest - limits.SYN_ANSWER_INTERVAL);
}

/**
 * How long after a SYN-ACK an entry may be leased: our first segment then reaches the upstream before its
 * timer fires. 0 beyond RTT_MAX, where no refresh comes in time: every taker connects in the ordinary way.
 */
export function leaseWindow(srttMs: number): number {
  if (srttMs > limits.RTT_MAX) return 0;
  return Math.floor(limits.SYNACK_TIMEOUT - srttMs - limits.LEASE_MARGIN);
}

/** How long a new SYN may stay unanswered. */
export function openTimeout(rtt: RttEstimator): number {
  if (!rtt.known) return limits.OPEN_TIMEOUT_INITIAL;
  return Math.max(limits.OPEN_TIMEOUT_MIN, 2 * rtt.answerWithinMs());
}

/**
 * From the `attempt`th repetition of a SYN to the next. A lost SYN's repetition is answered at once, that of
 * a lost answer not within 500 ms of it (net.ipv4.tcp_invalid_ratelimit).
 */
export function repeatAfter(attempt: number, rtt: RttEstimator): number {
  const answerWithin = rtt.answerWithinMs();
  const wait = attempt === 2 ? limits.SYN_ANSWER_INTERVAL - answerWithin : answerWithin;
  return Math.max(wait, limits.REFRESH_INTERVAL_MIN);
}
