/** Every bound of a probe, in one place. Times are ms. */

/**
 * SYNs of all kinds, in any second. The pool's share is its bucket's rate, one saved token and one of debt (see
 * TokenBucket); the rest goes to ordinary connections and to the witness.
 */
const SYN_RATE_MAX = 10;
export const POOL_SYN_RATE = 5;
export const SYN_INTERVAL = 400;

/** Half-opens kept: one to take, and one more so that the pool can look for SYN cookies. */
export const HALF_OPENS = 2;
export const HALF_OPEN_AGE_MAX = 60_000;

export const COUNT_DEFAULT = 20;
export const COUNT_MAX = 1_000;

/** How often the raw sockets are read and the pool is tended. */
export const STEP = 2;

/** An ordinary connect. */
export const CONNECT_MAX = 5_000;
/** How long a server gets to speak first. */
export const GREETING_MAX = 300;
/** Until sent bytes are acknowledged, and until they are answered. */
export const ACKNOWLEDGE_MAX = 3_000;
export const ANSWER_MAX = 10_000;
/** For the server's FIN after its answer: who closes first keeps the TIME_WAIT. */
export const FIN_MAX = 250;
/** Until a half-open is ready to be taken. */
export const READY_MAX = 4_000;

/** So many accelerated connections in a row that came to nothing say enough. */
export const FAILURES_MAX = 3;

/** How long one half-open is left alone: long enough for two SYN-ACKs of the server's timer, or for all. */
export const WATCH_SHORT = 3_700;
export const WATCH_LIFETIME = 70_000;
/** From a repeated SYN to its answer, with which a listener takes 500 ms (tcp_invalid_ratelimit). */
export const REPEAT_GAP = 600;
export const REPEATS_MAX = 3;

/** Addresses of a name that are tried. */
export const ADDRESSES_MAX = 3;

for (const [holds, what] of [
  [POOL_SYN_RATE + 2 + Math.ceil(1_000 / SYN_INTERVAL) <= SYN_RATE_MAX, "all SYNs together keep to the rate"],
  [REPEAT_GAP > 500, "a listener answers every repeated SYN"],
] as const) {
  if (!holds) throw new Error(`limits: ${what}`);
}
