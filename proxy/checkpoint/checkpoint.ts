/** The proxy's sessions go to a directory, and come back from it. */
import type { Logger } from "pino";
import { SyscallError } from "../../native/errno.ts";
import { NftGuard } from "../../native/guard/guard.ts";
import { GuardError } from "../../native/guard/guard-error.ts";
import { RepairError } from "../../native/repair/repair.ts";
import { AccelproxyError } from "../errors.ts";
import type { Estate } from "../upgrade/estate.ts";
import { removeImages, writeImages } from "./images/image-file.ts";
import type { SessionImage } from "./images/image-schema.ts";
import { type Returned, ReturningSessions, requireAddresses } from "./returning.ts";
import { type LeftOut, StandingSessions } from "./standing.ts";

export interface Checkpoint {
  readonly sessions: number;
  readonly leftOut: readonly LeftOut[];
  /** The file, or the other host. */
  readonly to: string;
  /** From the first session that stood still until all images were safe. */
  readonly durationMs: number;
}

/**
 * Writes every session into `dir` and closes its sockets in silence; connections stay guarded until they are restored.
 * Rejects with AccelproxyError, and everything goes on as if nothing had happened.
 */
export async function checkpoint(estate: Estate, dir: string): Promise<Checkpoint> {
  const startedMs = performance.now();
  using guard = openGuard();
  const standing = await StandingSessions.gather(estate, guard).catch(rethrow);
  let file: string | undefined;
  try {
    file = writeImages(dir, standing.images());
    standing.keepGuarded();
  } catch (error) {
    if (file !== undefined) removeImages(dir);
    await standing.goOn();
    return rethrow(error);
  }
  const durationMs = performance.now() - startedMs;
  standing.leave();
  const { leftOut } = standing;
  return { sessions: standing.size - leftOut.length, leftOut, to: file, durationMs };
}

/**
 * Goes on with the sessions of `dir`, whose file is gone then. Throws AccelproxyError with all of them as they were:
 * in the file, and guarded.
 */
export function restoreCheckpoint(
  dir: string,
  sessions: readonly SessionImage[],
  adopt: Estate["adopt"],
  log: Logger,
): Returned {
  requireAddresses(sessions);
  using guard = openGuard();
  const returning = new ReturningSessions(guard, log);
  try {
    returning.stage(sessions);
    // From here on a kill resets the peers when the guard ends: what has gone on must not be restored again.
    returning.limitGuard();
    removeImages(dir);
  } catch (error) {
    returning.giveUp();
    return rethrow(error);
  }
  return returning.goOn(adopt);
}

let prepared: NftGuard | undefined;

/**
 * Opens the guard that openGuard() will return, while descriptors are few: libnftables takes no high ones, and the nft
 * program, which then has to do, is slower. Never throws.
 */
export function prepareGuard(): void {
  try {
    prepared ??= new NftGuard();
  } catch {
    // Whoever needs it is told.
  }
}

/** The caller's. Throws AccelproxyError ACCEL_GUARD_MISSING, ACCEL_GUARD_FAILED. */
export function openGuard(): NftGuard {
  try {
    const guard = prepared ?? new NftGuard();
    prepared = undefined;
    return guard;
  } catch (error) {
    return rethrow(error);
  }
}

/** What the native parts throw, as users meet it. */
export function rethrow(error: unknown): never {
  if (error instanceof GuardError || error instanceof RepairError) {
    throw new AccelproxyError(error.code, error.message, { cause: error });
  }
  if (error instanceof SyscallError) {
    const message = `a connection cannot be read: ${error.message} (see accelproxy doctor)`;
    throw new AccelproxyError("ACCEL_CHECKPOINT", message, { cause: error });
  }
  throw error;
}
