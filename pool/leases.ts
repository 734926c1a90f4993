/** What becomes of entries once taken: in use, finished, their ports at rest, free again. */
import type { LiveEntry } from "./destination.ts";
import { ENDINGS, ENTRY, type Ending } from "./entry-table.ts";
import type { Destination } from "./handshake-wire.ts";
import type { KeeperServices } from "./keeper.ts";
import * as limits from "./limits.ts";
import type { DestinationPorts } from "./reservations.ts";

/** Takers only store "finished"; a look at all leased entries this often finds it. */
const SCAN_INTERVAL = 100;

/** TIME_WAIT is ours after we closed first; else strays of the connection are all that may come. */
const REST: Readonly<Record<Ending, number>> = {
  passive: limits.REST_RELEASED,
  active: limits.REST_TIME_WAIT,
  reset: limits.RESET_REPEATS[0],
  unused: limits.REST_RELEASED,
};

export class Leases {
  readonly #services: KeeperServices;
  readonly #to: Destination;
  readonly #ports: DestinationPorts;
  readonly #leased = new Set<LiveEntry>();
  #scanAtMs = 0;

  /** Leases of entries towards `to`, whose ports come from `ports`. */
  constructor(services: KeeperServices, to: Destination, ports: DestinationPorts) {
    this.#services = services;
    this.#to = to;
    this.#ports = ports;
  }

  get size(): number {
    return this.#leased.size;
  }

  has(entry: LiveEntry): boolean {
    return this.#leased.has(entry);
  }

  begin(entry: LiveEntry): void {
    this.#leased.add(entry);
    this.#services.reservations.lease(entry.port);
  }

  /** Ends the leases that takers finished; `ended` is told of each. */
  reconcile(nowMs: number, ended: (entry: LiveEntry) => void): void {
    if (nowMs < this.#scanAtMs) return;
    this.#scanAtMs = nowMs + SCAN_INTERVAL;
    for (const entry of this.#leased) {
      if (this.#services.table.state(entry.index) !== "finished") continue;
      this.#leased.delete(entry);
      ended(entry);
      this.#rest(entry, nowMs);
    }
  }

  /** The timer of a resting entry: a RST to repeat, or the end of its rest. */
  onRested(entry: LiveEntry, nowMs: number): void {
    const { table, wire } = this.#services;
    const repeats = limits.RESET_REPEATS;
    const repeatedAtMs = repeats[entry.resetsSent];
    if (this.#ending(entry) === "reset" && repeatedAtMs !== undefined) {
      wire.reset(entry.index, this.#to, table.getU32(entry.index, ENTRY.endSeq));
      entry.resetsSent += 1;
      const next = repeats[entry.resetsSent] ?? repeatedAtMs + limits.REST_RELEASED;
      this.#services.schedule(nowMs + next - repeatedAtMs, entry);
      return;
    }
    table.move(entry.index, "resting", "free");
    this.#ports.giveBack(entry.port);
    this.#services.freeEntry(entry);
  }

  #rest(entry: LiveEntry, nowMs: number): void {
    const { table, wire, reservations } = this.#services;
    const ending = this.#ending(entry);
    reservations.rest(entry.port);
    table.move(entry.index, "finished", "resting");
    entry.resetsSent = 0;
    // The upstream still holds a half-open that never became a socket.
    if (ending === "unused") {
      wire.reset(entry.index, this.#to, (table.getU32(entry.index, ENTRY.iss) + 1) >>> 0);
    }
    this.#services.schedule(nowMs + REST[ending], entry);
  }

  #ending(entry: LiveEntry): Ending {
    return ENDINGS[this.#services.table.get(entry.index, ENTRY.ending)]!;
  }
}
