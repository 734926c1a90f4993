/** Every bound of the engine. Times are ms, sizes bytes. */
export { ACK_REPEATS, FLIGHT_SILENCE, VERDICT_POLL, VERDICT_WAIT } from "../../pool/limits.ts";

/** Sessions of one worker; 24 bits name one in a request. */
export const SESSIONS_MAX = 1_000_000;
export const BACKLOG = 4_096;
/**
 * Receive buffers of a worker. A session holds at most two, so slow peers cannot starve the others; memory is
 * used only as far as data was ever in flight. Transfers that fill an ordinary buffer get a large one while
 * there are any (docs/internals/engine.md has the measurements).
 */
export const BUFFER_COUNT = 32_768;
export const BUFFER_KEEP = 256;
export const BUFFER_SIZE = 16_384;
export const BULK_BUFFERS = { count: 64, keep: 16, size: 262_144 } as const;
export const RING_ENTRIES = 1_024;

/** Longest first flight kept for a replay; a longer one is more than one segment on any ordinary path. */
export const FLIGHT_MAX = 4_096;
/** First flights kept at a time; beyond, sessions go without the possibility of a replay. */
export const FLIGHTS_MAX = 16_384;

/** A client that should send a PROXY header has this long for it. */
export const HEADER_WAIT = 10_000;

/** Requests of an ended session must be over by then; later its sockets are reset. */
export const CLOSE_LIMIT = 10_000;
/** After accept met the end of descriptors or memory although nobody has a session whose end would bring some. */
export const SHORTAGE_RETRY = 1_000;
/** A warning of a worker that could repeat itself comes at most this often. */
export const WARNING_INTERVAL = 10_000;
/** Sessions of a worker that are traced in a second, when somebody traces. */
export const TRACED_PER_SECOND_MAX = 100;
