/**
 * Sessions of images go on in this process:
 *
 *   images ──stage()──▶ standing: sockets in repair mode, guarded ──goOn()──▶ running, in the workers
 *                                  └──giveUp()──▶ as before: no socket, still guarded
 *
 * Between the two the caller sees to it that these sessions are nobody else's, so that no image is restored twice.
 */
import type { Logger } from "pino";
import { EADDRNOTAVAIL } from "../../native/abi/errno.ts";
import { IP_TRANSPARENT, IPPROTO_IP } from "../../native/abi/socket.ts";
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
  type TcpState,
} from "../../native/repair/repair.ts";
import { setIntOption } from "../../native/sockopt.ts";
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
   * Builds the sockets of some more sessions; `isAway` before this host has their addresses, see canStageAway(). One whose connections cannot be built is lost alone, when the others go
   * on. Throws AccelproxyError ACCEL_RESTORE_DENIED, GuardError; giveUp() then.
   */
  stage(sessions: readonly SessionImage[], isAway = false): void {
    const images = sessions.flatMap(imagesOf);
    const results = restore(this.#kit, isAway ? images.map(transparent) : images);
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

  /** Their addresses are of this host now: what was staged before is like it was. */
  arrive(): void {
    for (const { image, pair } of this.#sessions) {
      if (!canStageAway(image)) continue;
      const sockets = [pair.client, pair.upstream] as readonly (Held | undefined)[];
      for (const [index, connection] of imagesOf(image).entries()) {
        const fd = sockets[index]?.fd;
        if (fd !== undefined && !isTransparent(connection)) setIntOption(fd, IPPROTO_IP, IP_TRANSPARENT, 0);
      }
    }
  }

  /** Gives the guard of what is staged an end, from now on. Throws GuardError. */
  limitGuard(): void {
    this.#guard.keep(
      this.#sessions.flatMap(({ pair }) => heldOf(pair)),
      limits.GUARD_LIFETIME_S,
    );
  }

  /**
   * Wakes the peers and gives the sessions to `adopt`, some at a time. `stoodMs` tells for how long they have stood
   * still by now, where that is known. Throws GuardError.
   */
  goOn(
    adopt: (sessions: readonly MovingSession[]) => void,
    stoodMs = (): number => Number.POSITIVE_INFINITY,
  ): Returned {
    const whole = this.#sessions.filter(({ pair }) => refusalOf(pair) === undefined);
    for (let at = 0; at < whole.length; at += limits.RESUME_BATCH) {
      const batch = whole.slice(at, at + limits.RESUME_BATCH);
      this.#resume(batch, stoodMs());
      adopt(batch.map(movingOf));
    }
    const broken = this.#sessions.filter(({ pair }) => refusalOf(pair) !== undefined);
    this.#resume(broken, stoodMs());
    for (const { image, pair } of broken) {
      const fields = { listener: image.record.listener, reason: refusalOf(pair)?.message };
      this.#log.error(fields, "a session cannot be restored, its other connection is reset");
      resetAll(heldOf(pair).map(({ fd }) => fd));
    }
    this.#kit.close();
    return { restored: whole.length, failed: broken.length };
  }

  /** Why some of what is staged cannot be restored. */
  get refusals(): readonly string[] {
    return this.#sessions.flatMap(({ pair }) => refusalOf(pair)?.message ?? []);
  }

  /**
   * Closes what is staged in silence. All of it stays in the guard until somebody restores it, or, when the sessions are
   * at another host (`areElsewhere`), leaves it. Throws GuardError.
   */
  giveUp(areElsewhere = false): void {
    for (const { pair } of this.#sessions) discard(heldOf(pair));
    const images = this.#sessions.flatMap(({ image }) => imagesOf(image));
    if (areElsewhere) this.#guard.remove(images);
    else this.#guard.keep(images);
    this.#kit.close();
  }

  #resume(sessions: readonly Returning[], stoodMs: number): void {
    resume(
      this.#kit,
      sessions.flatMap(({ pair }) => heldOf(pair)),
      stoodMs,
    );
  }
}

/** connect() takes an address that is not of this host only from a transparent socket. */
const transparent = (image: TcpImage): TcpImage => ({
  ...image,
  options: [{ level: IPPROTO_IP, name: IP_TRANSPARENT, value: 1 }],
});

/** Whether the local address is another host's: an intercepted client's server, or a client that a server is to see. */
const isTransparent = ({ live }: TcpImage): boolean =>
  live?.options.some(({ name, value }) => name === "IP_TRANSPARENT" && value === 1) === true;

/** Whether its sockets can be built before its addresses arrive: a FIN of the peer has to reach them from here. */
export function canStageAway(image: SessionImage): boolean {
  return imagesOf(image).every(({ live }) => AWAY.has(live?.state ?? "ESTABLISHED"));
}

const AWAY: ReadonlySet<TcpState> = new Set<TcpState>(["ESTABLISHED", "FIN_WAIT1"]);

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
  const [missing] = addressesOf(sessions).filter((address) => !isLocal(address));
  if (missing === undefined) return;
  throw new AccelproxyError(
    "ACCEL_RESTORE_ADDRESS",
    `${formatAddress(missing)}, an address of these sessions, is none of this host (add it first, or restore where it is)`,
  );
}

/** Our own addresses in these sessions, each once, as on the wire. */
export function addressesOf(sessions: readonly SessionImage[]): Uint8Array[] {
  const images = sessions.flatMap(imagesOf).filter((image) => !isTransparent(image));
  const addresses = images.map(({ local }) => onTheWire(local.address));
  return [...new Map(addresses.map((address) => [formatAddress(address), address])).values()];
}

/** Whether this host has the address. Throws SyscallError EMFILE. */
export function isLocal(address: Uint8Array): boolean {
  try {
    assertBindable({ address: formatAddress(address), port: 0 });
    return true;
  } catch (error) {
    if (error instanceof SyscallError && error.errno === EADDRNOTAVAIL) return false;
    throw error;
  }
}
