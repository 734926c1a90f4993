import type { Endpoint } from "../native/address.ts";
import type { BudgetSpec } from "./budget.ts";

/** What the configuration says about a pool. */
export interface PoolSpec {
  readonly id: number;
  readonly upstream: string;
  readonly server: Endpoint;
  /** The client's address that its connections come from, which need not be this host's; absent: this host's. */
  readonly source?: string | undefined;
  readonly min: number;
  readonly max: number;
  /** SYNs a second, repetitions included. */
  readonly maxSynRate: number;
  readonly maxAgeMs: number;
  /** For a learned destination, of which nobody knows whether it is asked for again: what it shares with the others. */
  readonly budget?: BudgetSpec | undefined;
}
