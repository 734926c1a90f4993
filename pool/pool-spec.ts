import type { Endpoint } from "../native/address.ts";

/** What the configuration says about a pool. */
export interface PoolSpec {
  readonly id: number;
  readonly upstream: string;
  readonly server: Endpoint;
  readonly min: number;
  readonly max: number;
  /** SYNs a second, repetitions included. */
  readonly maxSynRate: number;
  readonly maxAgeMs: number;
}
