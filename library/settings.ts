/** What a user may say about pools, checked and with its defaults. */
import type { PoolSpec } from "../pool/pool-spec.ts";

/** The half-opens kept for one server. Several pools and connectors with equal settings share them. */
export interface PoolSettings {
  /** Kept ready for each server while it is used; default 2. */
  readonly min?: number | undefined;
  /** At most this many for each server; default 32. */
  readonly max?: number | undefined;
  /** SYNs a second and server, repetitions included; default 200. */
  readonly maxSynRate?: number | undefined;
  /** A half-open this old is replaced by another, ms; default 60,000. */
  readonly maxAge?: number | undefined;
}

const MAX_LIMIT = 4_096;

/** A pool's specification without its server. Throws RangeError, code ACCEL_SETTINGS, for what makes no sense. */
export function specOf(settings: PoolSettings): Omit<PoolSpec, "id" | "server"> {
  const { min = 2, max = Math.max(32, min), maxSynRate = 200, maxAge = 60_000 } = settings;
  assertInteger("max", max, 1, MAX_LIMIT);
  assertInteger("min", min, 0, max);
  assertInteger("maxSynRate", maxSynRate, 1, 1_000_000);
  assertInteger("maxAge", maxAge, 1_000, 86_400_000);
  return { upstream: "library", min, max, maxSynRate, maxAgeMs: maxAge };
}

function assertInteger(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  const problem = `${name} must be an integer from ${least} to ${most}, not ${String(value)}`;
  throw Object.assign(new RangeError(problem), { code: "ACCEL_SETTINGS" });
}
