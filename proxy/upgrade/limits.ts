/** Every bound of an upgrade. Times are ms. */

/** The new process must be prepared by then. */
export const PREPARE_LIMIT_MS = 30_000;
/** An answer to a step. */
export const ANSWER_LIMIT_MS = 10_000;
/** Sessions that end, which are not handed over, must have done so; then the rest is reset. */
export const FINISH_LIMIT_MS = 20_000;
/** Sessions on their way at a time: their pause is the time that one batch takes. */
export const BATCH = 8;
/** After so many batches the code is compiled: writing and reading the first takes 5 ms, the thirtieth 0.3. */
export const REHEARSALS = 30;
/** Before sessions that could not leave are asked again. */
export const RETRY_MS = 5;
/** Entries of a pool in one message. */
export const ENTRIES_MAX = 1_000;
