/** Every bound of checkpoint, restore and move. Seconds and ms as named. */

/**
 * How long connections stay guarded when the process that froze them is killed before their images are safe: then
 * their peers draw a RST instead of waiting for ever.
 */
export const GUARD_LIFETIME_S = 120;
/** While images are made the lifetime begins anew this often. */
export const GUARD_RENEW_MS = 10_000;
/** Later than this after it began anew, the guard's end is too near to rely on. */
export const GUARD_TRUST_MS = 100_000;

/** For sessions that end or judge a reset by themselves; who has not after that ends with the process. */
export const DEPART_LIMIT_MS = 3_000;
export const DEPART_RETRY_MS = 2;
/** Sessions that are woken and given to the workers at a time. */
export const RESUME_BATCH = 128;

if (GUARD_TRUST_MS + GUARD_RENEW_MS >= GUARD_LIFETIME_S * 1_000) throw new Error("the guard ends too early");
