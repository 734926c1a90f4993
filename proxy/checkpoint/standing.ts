/**
 * All sessions of a running proxy, out of its workers and standing still: nothing of them comes in or leaves.
 *
 *   running ──stop accepting, depart──▶ gathered ──freeze──▶ standing ──leave()──▶ gone, their images are elsewhere
 *      ▲                                                        │
 *      └──────────────────────── goOn() ────────────────────────┘
 *
 * The guard has a lifetime until leave(): see limits.ts.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { NftGuard } from "../../native/guard/guard.ts";
import {
  discard,
  dump,
  freeze,
  type Held,
  type LiveState,
  RepairError,
  RepairKit,
  resume,
  type TcpImage,
} from "../../native/repair/repair.ts";
import type { MovingSession, SessionRecord } from "../engine/session-record.ts";
import { AccelproxyError } from "../errors.ts";
import type { Estate } from "../upgrade/estate.ts";
import type { SessionImage } from "./images/image-schema.ts";
import * as limits from "./limits.ts";
import { heldOf, type Pair, pairUp, refusalOf, resetAll } from "./pairs.ts";

/** What it takes of an estate. */
export type Workers = Pick<Estate, "stopAccepting" | "acceptAgain" | "depart" | "adopt">;

interface Standing {
  readonly moving: MovingSession;
  readonly pair: Pair;
  /** Why it cannot be taken along. */
  refusal: RepairError | undefined;
}

/** A session that has no image, and why. */
export interface LeftOut {
  readonly listener: string;
  readonly why: string;
}

export class StandingSessions {
  readonly #estate: Workers;
  readonly #guard: NftGuard;
  readonly #kit: RepairKit;
  readonly #sessions: readonly Standing[];
  #guardedAtMs = performance.now();
  /** Before any session left its worker. */
  readonly #sinceMs: number;

  private constructor(
    estate: Workers,
    guard: NftGuard,
    kit: RepairKit,
    sessions: readonly Standing[],
    sinceMs: number,
  ) {
    this.#sinceMs = sinceMs;
    this.#estate = estate;
    this.#guard = guard;
    this.#kit = kit;
    this.#sessions = sessions;
  }

  /**
   * Stops accepting and has every session stand still. The guard stays the caller's and must outlive the result. Rejects
   * with GuardError, RepairError ACCEL_REPAIR_DENIED; everything goes on as before then.
   */
  static async gather(estate: Workers, guard: NftGuard): Promise<StandingSessions> {
    const sinceMs = performance.now();
    const gathered: MovingSession[] = [];
    const kit = new RepairKit(guard.lasting(limits.GUARD_LIFETIME_S));
    try {
      await estate.stopAccepting();
      await takeOut(estate, gathered);
      const pairs = pairUp(
        gathered.map(({ sockets }) => sockets.upstream !== undefined),
        freeze(kit, gathered.flatMap(descriptorsOf)),
      );
      const sessions = gathered.map((moving, index): Standing => {
        const pair = pairs[index]!;
        return { moving, pair, refusal: refusalOf(pair) };
      });
      return new StandingSessions(estate, guard, kit, sessions, sinceMs);
    } catch (error) {
      kit.close();
      estate.adopt(gathered);
      await estate.acceptAgain();
      throw error;
    }
  }

  /** How long they have stood still, ms: none longer. */
  get stoodMs(): number {
    return performance.now() - this.#sinceMs;
  }

  get size(): number {
    return this.#sessions.length;
  }

  /** Sessions that images() found to have a connection which cannot be taken along, because it has ended, say. */
  get leftOut(): LeftOut[] {
    return this.#sessions.flatMap(({ moving, refusal }) =>
      refusal === undefined ? [] : [{ listener: moving.record.listener, why: refusal.message }],
    );
  }

  /** Their images, one after the other, without those that are left out. Throws SyscallError, GuardError. */
  *images(): Generator<SessionImage> {
    const known = new KnownOptions();
    for (const session of this.#sessions) {
      const image = imageOf(session, known);
      if (image !== undefined) yield image;
      if (performance.now() - this.#guardedAtMs > limits.GUARD_RENEW_MS) this.#renewGuard();
    }
  }

  /**
   * Throws AccelproxyError ACCEL_CHECKPOINT_SLOW when making the images took so long that the guard may have ended: they
   * may no longer be true.
   */
  requireGuarded(): void {
    if (performance.now() - this.#guardedAtMs <= limits.GUARD_TRUST_MS) return;
    throw new AccelproxyError(
      "ACCEL_CHECKPOINT_SLOW",
      "the images took longer than connections may stand still (use a faster disk or network)",
    );
  }

  /** From now on the guard has no end: the images are safe. Throws GuardError, and as requireGuarded(). */
  keepGuarded(): void {
    this.requireGuarded();
    this.#guard.keep(this.#heldOf((session) => session.refusal === undefined));
  }

  /** Everything goes on where it stood. Rejects with GuardError. */
  async goOn(): Promise<void> {
    resume(
      this.#kit,
      this.#heldOf(() => true),
      this.stoodMs,
    );
    this.#kit.close();
    this.#estate.adopt(this.#sessions.map(({ moving }) => moving));
    await this.#estate.acceptAgain();
  }

  /** Closes all sockets: in silence those that have images, with a reset the others. Throws GuardError. */
  leave(): void {
    discard(this.#heldOf(({ refusal }) => refusal === undefined));
    const out = this.#sessions.filter(({ refusal }) => refusal !== undefined);
    resume(
      this.#kit,
      this.#heldOf(({ refusal }) => refusal !== undefined),
    );
    this.#kit.close();
    resetAll(out.flatMap(({ moving }) => descriptorsOf(moving)));
  }

  #heldOf(isMeant: (session: Standing) => boolean): Held[] {
    return this.#sessions.flatMap((session) => (isMeant(session) ? heldOf(session.pair) : []));
  }

  #renewGuard(): void {
    this.#guard.keep(
      this.#heldOf(() => true),
      limits.GUARD_LIFETIME_S,
    );
    this.#guardedAtMs = performance.now();
  }
}

/** Collects into `gathered`, so that they can go on if it fails. */
async function takeOut(estate: Workers, gathered: MovingSession[]): Promise<void> {
  const deadlineMs = performance.now() + limits.DEPART_LIMIT_MS;
  for (;;) {
    const { sessions, left } = await estate.depart(Number.MAX_SAFE_INTEGER);
    gathered.push(...sessions);
    if (left === 0 || performance.now() > deadlineMs) return;
    await sleep(limits.DEPART_RETRY_MS);
  }
}

/** Socket options of one connection of each kind, which saves reading most of them from the others. */
class KnownOptions {
  readonly #byKind = new Map<string, LiveState["options"]>();

  dump(side: "client" | "upstream", held: Held, { listener, upstream, path }: SessionRecord): TcpImage {
    const kind = JSON.stringify([side, listener, upstream, path, held.remote.address.length]);
    const options = this.#byKind.get(kind);
    // What the pool made is bound to its port; an ordinary connect leaves the choice to the kernel.
    const portChosen = side === "upstream" && path !== "accelerated";
    const image = dump(held, options === undefined ? { portChosen } : { portChosen, options });
    if (options === undefined) this.#byKind.set(kind, image.live!.options);
    return image;
  }
}

/** Undefined for a session that is left out, which is noted in it. */
function imageOf(session: Standing, known: KnownOptions): SessionImage | undefined {
  const { moving, pair } = session;
  const { client, upstream } = pair;
  if (client instanceof RepairError || upstream instanceof RepairError) return undefined;
  const { record } = moving;
  try {
    return {
      record,
      client: known.dump("client", client, record),
      upstream: upstream && known.dump("upstream", upstream, record),
    };
  } catch (error) {
    if (!(error instanceof RepairError)) throw error;
    session.refusal = error;
    return undefined;
  }
}

function descriptorsOf({ sockets: { client, upstream } }: MovingSession): number[] {
  return upstream === undefined ? [client] : [client, upstream];
}
