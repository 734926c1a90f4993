/**
 * What a half-open that was left alone tells. A server that keeps it sends its SYN-ACK again, each time after
 * twice as long (Linux: 1, 3, 7, 15 and 31 s with net.ipv4.tcp_synack_retries = 5), and forgets it when the next
 * one would be due. One that answers with SYN cookies keeps nothing and sends nothing again, and the same SYN
 * draws the same sequence number from it. Pure.
 */

/** What the same SYN drew at the end. */
export type Afterwards = "same sequence number" | "another sequence number" | "reset" | "silence";

export interface Watched {
  /** SYN-ACKs that nobody asked for, in ms after the first one, ascending. */
  readonly repeatedAtMs: readonly number[];
  readonly watchedMs: number;
  readonly afterwards: Afterwards;
}

/**
 * held: the server had it to the end of the watch. forgotten: it had given it up by then. cookies: it never had
 * it. reset: it, or a box on the way, ended it. silent: there was no answer any more.
 */
export type HalfOpenFate = "held" | "forgotten" | "cookies" | "reset" | "silent";

export interface Lifetime {
  readonly fate: HalfOpenFate;
  /** When the server gave it up, ms after its first SYN-ACK; undefined while that is not known. */
  readonly lifetimeMs: number | undefined;
}

/** The first repetition of servers comes after 1 s (Linux) to 3 s (older systems). */
const FIRST_REPETITION_MAX = 3_300;
/** Timers fire late and packets take their time. */
const SLACK_SHARE = 0.05;
const SLACK_MIN = 700;
const LINUX_FIRST_REPETITION = 1_000;

/** When the repetition after these is due. */
export function nextRepetitionMs(repeatedAtMs: readonly number[]): number {
  const last = repeatedAtMs.at(-1);
  if (last === undefined) return FIRST_REPETITION_MAX;
  return last + 2 * (last - (repeatedAtMs.at(-2) ?? 0));
}

/** True when no further repetition is to be expected: the last one that was due has not come. */
export function isOver(repeatedAtMs: readonly number[], watchedMs: number): boolean {
  const due = nextRepetitionMs(repeatedAtMs);
  return (
    watchedMs > due + Math.max(SLACK_MIN, due * SLACK_SHARE) || (repeatedAtMs.length === 0 && watchedMs > due)
  );
}

export function readLifetime({ repeatedAtMs, watchedMs, afterwards }: Watched): Lifetime {
  const due = nextRepetitionMs(repeatedAtMs);
  const wasSeen = repeatedAtMs.length > 0;
  switch (afterwards) {
    case "reset":
      return { fate: "reset", lifetimeMs: undefined };
    case "silence":
      return { fate: "silent", lifetimeMs: undefined };
    case "same sequence number":
      return { fate: wasSeen ? "held" : "cookies", lifetimeMs: undefined };
    case "another sequence number":
      return { fate: "forgotten", lifetimeMs: wasSeen ? Math.min(due, watchedMs) : LINUX_FIRST_REPETITION };
    default: {
      const unreachable: never = afterwards;
      return unreachable;
    }
  }
}
