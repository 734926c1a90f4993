/** What becomes of entries once taken: in use, finished, their ports at rest, free again. */

import { ENDINGS, ENTRY, type Ending } from "./entry-table.ts";
import type { Destination } from "./handshake-wire.ts";
import type { KeeperServices } from "./keeper.ts";
import * as limits from "./limits.ts";
import type { LiveEntry } from "./live-entry.ts";
import type { DestinationPorts } from "./reservations.ts";
import type { RttEstimator } from "./rtt.ts";

/**
 * TIME_WAIT is ours after we closed first. Else our last FIN may still be on its way, two round trips at most
 * unless it was lost: a SYN-ACK would meet its socket, and that entry would not open.
 */
const REST: Readonly<Record<Ending, number>> = {
  passive: limits.REST_PASSIVE,
  active: limits.REST_TIME_WAIT,
  reset: limits.RESET_REPEATS[0],
  unused: limits.REST_RELEASED,
};

export class Leases {
  readonly #services: KeeperServices;
  readonly #to: Destination;
  readonly #ports: DestinationPorts;
  readonly #rtt: RttEstimator;
  readonly #leased = new Set<LiveEntry>();

  /** Leases of entries towards `to`, `rtt` away, whose ports come from `ports`. */
  constructor(services: KeeperServices, to: Destination, ports: DestinationPorts, rtt: RttEstimator) {
    this.#services = services;
    this.#to = to;
    this.#ports = ports;
    this.#rtt = rtt;
  }

  get size(): number {
    return this.#leased.size;
  }

  has(entry: LiveEntry): boolean {
    return this.#leased.has(entry);
  }

  begin(entry: LiveEntry): void {
    this.#leased.add(entry);
    this.#ports.lease(entry.port);
  }

  /** A taker finished a lease: its port rests. */
  end(entry: LiveEntry, nowMs: number): void {
    this.#leased.delete(entry);
    this.#rest(entry, nowMs);
  }

  /** How long an entry that rests already may still have to. */
  longestRest(entry: LiveEntry): number {
    return this.#ending(entry) === "active" ? limits.REST_TIME_WAIT : limits.REST_RELEASED;
  }

  /** The timer of a resting entry: a RST to repeat, or the end of its rest. */
  onRested(entry: LiveEntry, nowMs: number): void {
    const { table, wire } = this.#services;
    const ending = this.#ending(entry);
    const repeats = limits.RESET_REPEATS;
    const repeatedAtMs = repeats[entry.resetsSent];
    if (ending === "reset" && repeatedAtMs !== undefined) {
      wire.reset(entry.index, this.#to, table.getU32(entry.index, ENTRY.endSeq));
      entry.resetsSent += 1;
      const next = repeats[entry.resetsSent] ?? repeatedAtMs + limits.REST_RELEASED;
      this.#services.schedule(nowMs + next - repeatedAtMs, entry);
      return;
    }
    if (ending === "active") this.#ports.rest(entry.port);
    table.move(entry.index, "resting", "free");
    this.#ports.giveBack(entry.port);
    this.#services.freeEntry(entry);
  }

  #rest(entry: LiveEntry, nowMs: number): void {
    const { table, wire } = this.#services;
    const ending = this.#ending(entry);
    // In TIME_WAIT the kernel holds the port: it needs our guard no more than while it was leased.
    if (ending !== "active") this.#ports.rest(entry.port);
    table.move(entry.index, "finished", "resting");
    entry.resetsSent = 0;
    // The upstream still holds a half-open that never became a socket.
    if (ending === "unused") {
      wire.reset(entry.index, this.#to, (table.getU32(entry.index, ENTRY.iss) + 1) >>> 0);
    }
    this.#services.schedule(nowMs + REST[ending] + 2 * this.#rtt.srttMs, entry);
  }

  #ending(entry: LiveEntry): Ending {
    return ENDINGS[this.#services.table.get(entry.index, ENTRY.ending)]!;
  }
}
