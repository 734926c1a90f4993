/** The states of a session and the moves between them; session.ts draws the picture. */

export type SessionState = "free" | "waiting" | "connecting" | "unproven" | "judging" | "open" | "closing";

const MOVES = {
  free: ["waiting"],
  waiting: ["connecting", "unproven", "closing"],
  connecting: ["open", "closing"],
  unproven: ["open", "judging", "closing"],
  judging: ["connecting", "closing"],
  open: ["closing"],
  closing: ["free"],
} as const satisfies Record<SessionState, readonly SessionState[]>;

/** Throws for a move the table does not know: our bug. */
export function assertMove(from: SessionState, to: SessionState): void {
  if (!(MOVES[from] as readonly SessionState[]).includes(to))
    throw new Error(`session: no move ${from} → ${to}`);
}
