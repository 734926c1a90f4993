/** Every bound of http mode that no key sets. Times are ms, sizes bytes. */

/** A request's or a response's line and headers together; more is 431, or 502. */
export const HEAD_BYTES_MAX = 16_384;
/** From a request's first byte, or a connection's beginning, to the end of its head. */
export const HEAD_LIMIT = 60_000;
/** How often connections are looked at for that. */
export const SWEEP_INTERVAL = 1_000;
/** The beginning of a body that is kept until it is known that it arrived: what goes out as one segment, at most. */
export const BODY_KEPT_MAX = 65_536;
/** A body up to this size is waited for, takeAfter at most, so that it leaves together with the head. */
export const SMALL_BODY_MAX = 16_384;
/** Idle connections to one server, in each thread. */
export const IDLE_MAX = 256;
/** How long the rest of a body is read that nobody wants any more. */
export const DISCARD_LIMIT = 10_000;
