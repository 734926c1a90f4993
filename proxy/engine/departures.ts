/**
 * Sessions on their way out of an engine. They leave together, at the end of the turn after the last of them was
 * suspended, so that everything they had queued before (a shutdown) has been done by then.
 */
import type { Session } from "./session.ts";

export class Departures {
  #asked: readonly Session[] | undefined;

  /** Suspends up to `max` of the sessions. One departure at a time. */
  begin(sessions: Iterable<Session>, max: number): void {
    if (this.#asked !== undefined) throw new Error("a departure is under way");
    const asked: Session[] = [];
    for (const session of sessions) {
      if (asked.length >= max) break;
      if (session.suspend()) asked.push(session);
    }
    this.#asked = asked;
  }

  /** True when all that were asked are ready to leave, or stay because they end. */
  get hasSettled(): boolean {
    return this.#asked?.every(({ departure }) => departure !== "leaving") ?? false;
  }

  /** The sessions that leave; the departure is over. Only when it has settled. */
  take(): readonly Session[] {
    const ready = (this.#asked ?? []).filter(({ departure }) => departure === "ready");
    this.#asked = undefined;
    return ready;
  }
}
