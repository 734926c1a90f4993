/**
 * What a keeper hands to the keeper of another process of this host: reservations, entries at the indices they have,
 * and what pools learnt. Plain data; both processes read the same clock and use the same secret, so that sequence
 * numbers and TSvals go on where they were.
 */
import type { Endpoint } from "../native/address.ts";
import type { DemandMemory } from "./demand.ts";
import type { EntryState } from "./entry-table.ts";
import type { PoolCounts } from "./pool-block.ts";
import type { RttMemory } from "./rtt.ts";

/** An entry: its words in the table, and what its keeper knows besides. Times are ms of clock.nowMs(). */
export interface EntryRecord {
  readonly index: number;
  readonly state: EntryState;
  readonly words: Uint8Array;
  readonly port: number;
  readonly openedAtMs: number;
  readonly sentAtMs: number;
  readonly attempts: number;
  readonly resetsSent: number;
  readonly isForNow: boolean;
}

/** What a pool learnt. */
export interface PoolMemory {
  readonly rtt: RttMemory;
  readonly demand: DemandMemory;
  readonly isCookies: boolean;
}

export interface PoolRecord {
  readonly upstream: string;
  readonly server: Endpoint;
  readonly memory: PoolMemory;
  readonly entries: readonly EntryRecord[];
}

export interface KeeperRecord {
  /** Reservations: their numbers and descriptors, which stay the giver's. */
  readonly ports: readonly { readonly number: number; readonly fd: number }[];
  readonly pools: readonly PoolRecord[];
}

/** What became known after a KeeperRecord was made. */
export interface KeeperSettlement {
  /** Entries that were leased then, and whose sessions ended with the other process. */
  readonly endedLeases: readonly number[];
  readonly counts: readonly {
    readonly upstream: string;
    readonly server: Endpoint;
    readonly counts: PoolCounts;
  }[];
}
