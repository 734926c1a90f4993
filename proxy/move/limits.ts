/** Every bound of a move. Times are ms, sizes bytes. */

/** Sessions in a message. */
export const BATCH = 32;
/** Batches that are moved for practice: the first takes ten times as long as the last. */
export const REHEARSALS = 24;
/** Of a message: a batch with full queues of the largest windows does not fit, and is refused. */
export const FRAME_MAX = 1 << 30;
/** What is read before it is looked at. */
export const HEADER_SIZE = 4;

export const CONNECT_LIMIT = 10_000;
/** An answer, or the next message. */
export const ANSWER_LIMIT = 20_000;
/** For the addresses to arrive; well within the guard's lifetime. */
export const ARRIVAL_LIMIT = 60_000;
export const ARRIVAL_POLL = 1;
/** The log says at most this often that strangers knock. */
export const STRANGER_WARNING_INTERVAL = 10_000;
