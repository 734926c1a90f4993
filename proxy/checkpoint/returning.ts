/**
 * Sessions of images go on in this process:
 *
 *   images ──stage()──▶ standing: sockets in repair mode, guarded ──goOn()──▶ running, in the workers
 *                                  └──giveUp()──▶ as before: no socket, still guarded
 *
 * Between the two the caller sees to it that these sessions are nobody else's, so that no image is restored twice.
 */
import type { Logger } from "pino";
import { formatAddress } from "../../native/address.ts";
import { SyscallError } from "../../native/errno.ts";
import type { NftGuard } from "../../native/guard/guard.ts";
import { assertBindable } from "../../native/net/tcp-socket.ts";
import { onTheWire } from "../../native/repair/held.ts";
import {
  discard,
  type Held,
  RepairError,
  RepairKit,
  restore,
  resume,
  type TcpImage,
} from "../../native/repair/repair.ts";
import type { MovingSession } from "../engine/session-record.ts";
import { AccelproxyError } from "../errors.ts";
import type { SessionImage } from "./images/image-schema.ts";
import * as limits from "./limits.ts";
import { heldOf, type Pair, pairUp, refusalOf, resetAll } from "./pairs.ts";

interface Returning {
  readonly image: SessionImage;
  readonly pair: Pair;
}

export interface Returned {
  readonly restored: number;
  /** Each is in the log with its reason; their peers have drawn a reset. */
  readonly failed: number;
}

export class ReturningSessions {
  readonly #guard: NftGuard;
  readonly #kit: RepairKit;
  readonly #log: Logger;
  readonly #sessions: Returning[] = [];

  /**
   * The guard is the caller's. With a `lifetimeS` what is not there yet gets it, against this process's being
   * killed.
   */
  constructor(guard: NftGuard, log: Logger, lifetimeS?: number) {
    this.#guard = guard;
    this.#kit = new RepairKit(lifetimeS === undefined ? guard : guard.lasting(lifetimeS));
    this.#log = log;
  }

  /**
   * Builds the sockets of some more sessions. One whose connections cannot be built is lost alone, when the others go
   * on. Throws AccelproxyError ACCEL_RESTORE_DENIED, GuardError; giveUp() then.
   */
  stage(sessions: readonly SessionImage[]): void {
    const results = restore(this.#kit, sessions.flatMap(imagesOf));
    const pairs = pairUp(
      sessions.map(({ upstream }) => upstream !== undefined),
      results,
    );
    for (const [index, image] of sessions.entries()) this.#sessions.push({ image, pair: pairs[index]! });
    const denied = results.find((one) => one instanceof RepairError && one.code === "ACCEL_REPAIR_DENIED");
    if (denied instanceof RepairError) {
      throw new AccelproxyError("ACCEL_RESTORE_DENIED", denied.message, { cause: denied });
    }
  }

  /** Gives the guard of what is staged an end, from now on. Throws GuardError. */
  limitGuard(): void {
    this.#guard.keep(
      this.#sessions.flatMap(({ pair }) => heldOf(pair)),
      limits.GUARD_LIFETIME_S,
    );
  }

  /** Wakes the peers and gives the sessions to `adopt`, some at a time. Throws GuardError. */
  goOn(adopt: (sessions: readonly MovingSession[]) => void): Returned {
    const whole = this.#sessions.filter(({ pair }) => refusalOf(pair) === undefined);
    for (let at = 0; at < whole.length; at += limits.RESUME_BATCH) {
      const batch = whole.slice(at, at + limits.RESUME_BATCH);
      this.#resume(batch);
      adopt(batch.map(movingOf));
    }
    const broken = this.#sessions.filter(({ pair }) => refusalOf(pair) !== undefined);
    this.#resume(broken);
    for (const { image, pair } of broken) {
      const fields = { listener: image.record.listener, reason: refusalOf(pair)?.message };
      this.#log.error(fields, "a session cannot be restored, its other connection is reset");
      resetAll(heldOf(pair).map(({ fd }) => fd));
    }
    this.#kit.close();
    return { restored: whole.length, failed: broken.length };
  }

  /** Closes what is staged in silence; all of it stays in the guard for `lifetimeS`, or until somebody restores it. */
  giveUp(lifetimeS?: number): void {
    for (const { pair } of this.#sessions) discard(heldOf(pair));
    this.#guard.keep(
      this.#sessions.flatMap(({ image }) => imagesOf(image)),
      lifetimeS,
    );
    this.#kit.close();
  }

  #resume(sessions: readonly Returning[]): void {
    resume(
      this.#kit,
      sessions.flatMap(({ pair }) => heldOf(pair)),
    );
  }
}

const imagesOf = ({ client, upstream }: SessionImage): TcpImage[] =>
  upstream === undefined ? [client] : [client, upstream];

/** Without its lease: the half-open's entry stayed with the process that had it. */
function movingOf({ image, pair: { client, upstream } }: Returning): MovingSession {
  return {
    record: { ...image.record, lease: undefined },
    sockets: { client: (client as Held).fd, upstream: (upstream as Held | undefined)?.fd },
  };
}

/**
 * Throws AccelproxyError ACCEL_RESTORE_ADDRESS when this host lacks an address of theirs, so that none of the many
 * sessions with it are lost.
 */
export function requireAddresses(sessions: readonly SessionImage[]): void {
  const addresses = new Set(
    sessions.flatMap(imagesOf).map(({ local }) => formatAddress(onTheWire(local.address))),
  );
  for (const address of addresses) {
    try {
      assertBindable({ address, port: 0 });
    } catch (cause) {
      if (!(cause instanceof SyscallError)) throw cause;
      throw new AccelproxyError(
        "ACCEL_RESTORE_ADDRESS",
        `${address}, an address of these sessions, is none of this host: ${cause.code} (add it first, or restore where it is)`,
        { cause },
      );
    }
  }
}
