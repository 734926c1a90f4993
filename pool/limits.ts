/** Every bound of the pool, in one place. Times are ms. docs/internals/pool.md tells where each comes from. */

/** Half-opens, leased entries and resting ports of the whole process; 128 bytes each, touched when used. */
export const ENTRIES_MAX = 65_536;
/** Notices of takers that the keeper has not read: an entry has two in its life, and rests before the next. */
export const NOTICES_MAX = 4 * ENTRIES_MAX;
/** Pools at a time, and how long one nobody holds is kept. */
export const POOLS_MAX = 4_096;
export const POOL_IDLE = 5_000;
/** Reservations kept open while idle. */
export const RESERVATIONS_IDLE_MAX = 1_024;
/** Above this many reservations, one whose entries are all leased is closed: its socket holds the port. */
export const RESERVATIONS_OPEN_MAX = 8_192;
/** Fewer ports than these above the kernel's own choice are not steered, and how many are tried for one nobody has. */
export const STEERED_PORTS_MIN = 1_024;
export const STEERED_TRIES = 16;

/** Linux re-sends a SYN-ACK 1 s after the last (TCP_TIMEOUT_INIT): we are always earlier. */
export const SYNACK_TIMEOUT = 1_000;
export const REFRESH_INTERVAL = 800;
/** Kept free between a lease's first segment and the upstream's timer. */
export const LEASE_MARGIN = 20;
/** Shortest refresh, and the RTT above which no refresh can keep an entry. */
export const REFRESH_INTERVAL_MIN = 150;
export const RTT_MAX = 800;
/** A listener does not answer a repeated SYN within 500 ms of the last answer (tcp_invalid_ratelimit). */
export const SYN_ANSWER_INTERVAL = 520;
/** Unanswered repetitions before an entry is given up. */
export const REFRESH_ATTEMPTS = 3;
/** A new SYN is repeated once after this, then given up after as much again. */
export const OPEN_TIMEOUT_MIN = 250;
/** Before the first RTT sample. */
export const OPEN_TIMEOUT_INITIAL = 1_000;

/** How long a port rests for one destination. TIME_WAIT: ours, after we closed first (TCP_TIMEWAIT_LEN). */
export const REST_RELEASED = 2_000;
export const REST_PASSIVE = 250;
export const REST_TIME_WAIT = 61_000;

/** Waits before a destination that refused or did not answer is tried again. */
export const BACKOFF_MIN = 1_000;
export const BACKOFF_MAX = 30_000;
/** Pause after first flights vanished into silence; doubles each time. */
export const BLACKHOLE_PAUSE_MIN = 15_000;
export const BLACKHOLE_PAUSE_MAX = 300_000;
export const BLACKHOLED_FLIGHTS = 2;
/** How long a ceiling learnt from dropped SYNs stays before it may grow by a quarter. */
export const CEILING_HOLD = 300_000;

/** A pool that found its budget used up looks again after this. */
export const BUDGET_WAIT = 50;
export const CANARY_INTERVAL = 10_000;
/** Burst memory: an idle pool's target halves this often. */
export const DEMAND_HALF_LIFE = 30_000;
export const ROUTE_MAX_AGE = 5_000;
/** Half-opens that are opened before answers are read again: fewer than a ring holds (HandshakeRing). */
export const OPENED_AT_ONCE = 512;
/** The log says at most this often that a pool is paused, and repeats warnings of the keeper. */
export const PAUSE_NEWS_INTERVAL = 10_000;
export const WARNING_INTERVAL = 60_000;
/** Longest sleep of the keeper. */
export const KEEPER_SLEEP_MAX = 1_000;
/** For how long after a take the keeper only naps, and how long a nap is. */
export const KEEPER_BUSY = 100;
export const KEEPER_NAP = 5;
/** What is taken this soon needs no second SYN: the RTO it gives is a third of what it is without a sample. */
export const TAKEN_SOON = 100;
/** A RST is sent again after these, since nobody acknowledges one. */
export const RESET_REPEATS = [250, 1_000] as const;

/** The raw ACK of a server that speaks first is sent again after these. */
export const ACK_REPEATS = [200, 400, 800] as const;
/** A first flight unacknowledged for this long went into a black hole. */
export const FLIGHT_SILENCE = 3_000;
/**
 * How long to wait for the keeper to have seen the RST that TCP reported, and how often to look. It heard the
 * RST first, but may have to be scheduled; only when it lost the RST is all of the wait needed.
 */
export const VERDICT_WAIT = 1_000;
export const VERDICT_POLL = 1;

for (const [holds, what] of [
  [REFRESH_INTERVAL + LEASE_MARGIN < SYNACK_TIMEOUT, "a refresh comes before the upstream's timer"],
  [RTT_MAX + LEASE_MARGIN + REFRESH_INTERVAL_MIN < SYNACK_TIMEOUT, "the farthest pool can be refreshed"],
  [RESERVATIONS_IDLE_MAX <= RESERVATIONS_OPEN_MAX, "idle reservations are open ones"],
  [(NOTICES_MAX & (NOTICES_MAX - 1)) === 0, "notices wrap at a power of two"],
] as const) {
  if (!holds) throw new Error(`limits: ${what}`);
}
