/**
 * The states of a session and the moves between them; session.ts draws the picture. The four from which a move to free
 * exists are those in which a session leaves its engine, and to which one that arrives moves from free.
 */

export type SessionState =
  | "free"
  | "waiting"
  | "queued"
  | "connecting"
  | "unproven"
  | "judging"
  | "open"
  | "closing";

const MOVES = {
  free: ["waiting", "connecting", "unproven", "open"],
  waiting: ["queued", "connecting", "unproven", "closing", "free"],
  queued: ["waiting", "connecting", "unproven", "closing"],
  connecting: ["queued", "open", "closing", "free"],
  unproven: ["open", "judging", "closing", "free"],
  judging: ["connecting", "closing"],
  open: ["closing", "free"],
  closing: ["free"],
} as const satisfies Record<SessionState, readonly SessionState[]>;

/** Throws for a move the table does not know: our bug. */
export function assertMove(from: SessionState, to: SessionState): void {
  if (!(MOVES[from] as readonly SessionState[]).includes(to))
    throw new Error(`session: no move ${from} → ${to}`);
}
