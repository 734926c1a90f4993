/** Every bound of balancing. Times are ms. */

/** A server is ejected after so many failed connects in a row, of all threads together. */
export const FAILURES_MAX = 3;
/** How long until one session tries an ejected server again; doubles each time that fails. */
export const EJECTION_MIN = 1_000;
export const EJECTION_MAX = 30_000;
