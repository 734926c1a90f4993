/**
 * The guard: nobody answers for a connection, and nothing leaves for it, while it is away.
 *
 * TCP_REPAIR stops neither direction of a socket, and once the socket is closed the kernel would answer its peer
 * with a RST. So its 4-tuple goes into an nftables table of ours before it is dumped, and comes out when it is
 * back. The table belongs to no process: it outlives the one that added, and any other may remove.
 *
 *            first add                      close, if empty
 *   no table ─────────▶ table with elements ──────────────▶ no table
 *                          add ⟲ remove
 *
 * Each arrow is one transaction of the kernel, and is tried again when another process was faster. Only close()
 * tries to delete the table: a refused attempt waits for an RCU grace period, 15 ms.
 */
import type { GuardError } from "./guard-error.ts";
import { type Nft, type NftPlaces, type NftResult, openNft } from "./nft.ts";
import {
  addCommands,
  createCommands,
  DROP_COMMANDS,
  elementKey,
  type GuardedTuple,
  keepCommands,
  LIST_COMMANDS,
  parseElements,
  removeCommands,
} from "./ruleset.ts";

/** Elements in one transaction; a netlink message must fit the send buffer of an unprivileged namespace. */
const BATCH_MAX = 1_000;
/** keep() has three commands for each element. */
const KEEP_BATCH_MAX = 300;
/** Every retry means that another process changed the table in between. */
const ATTEMPTS_MAX = 32;

/** What freezing and restoring need of a guard. */
export interface Guard {
  /**
   * From its return on, no packet of these connections comes in or leaves, except those with GUARD_MARK.
   * All or none, and none twice. Throws GuardError, RangeError for ends of different families.
   */
  add(tuples: readonly GuardedTuple[]): void;
  /** Lets their packets pass again; those that are not in the guard do already. Throws as add() does. */
  remove(tuples: readonly GuardedTuple[]): void;
}

/** The guard of the network namespace of the thread that opens it. Owner: whoever did, until close(). */
export class NftGuard implements Guard, Disposable {
  readonly #nft: Nft;
  #closed = false;

  /** Throws GuardError ACCEL_GUARD_MISSING, ACCEL_GUARD_FAILED. Changes nothing. */
  constructor(places?: Partial<NftPlaces>) {
    this.#nft = openNft(places);
  }

  /** Until removed, or for `lifetimeS` seconds: then packets pass again, and a kernel without the socket refuses them. */
  add(tuples: readonly GuardedTuple[], lifetimeS?: number): void {
    const added: GuardedTuple[] = [];
    try {
      for (const batch of batchesOf(tuples)) {
        this.#addBatch(batch, lifetimeS);
        added.push(...batch);
      }
    } catch (error) {
      this.remove(added);
      throw error;
    }
  }

  /**
   * Gives connections a lifetime from now on, or takes it away, whether they are in the guard or not. Throws GuardError,
   * with some of them as they were.
   */
  keep(tuples: readonly GuardedTuple[], lifetimeS?: number): void {
    for (const batch of batchesOf(tuples, KEEP_BATCH_MAX)) {
      this.#untilSettled(() => {
        if (this.#run(keepCommands(batch, lifetimeS), "ENOENT").ok) return true;
        return this.#run(createCommands(batch, lifetimeS), "EEXIST").ok;
      });
    }
  }

  /** This guard, where what is added has a lifetime. */
  lasting(lifetimeS: number): Guard {
    return {
      add: (tuples) => this.add(tuples, lifetimeS),
      remove: (tuples) => this.remove(tuples),
    };
  }

  remove(tuples: readonly GuardedTuple[]): void {
    for (const batch of batchesOf(tuples)) this.#removeBatch(batch);
  }

  /** The connections in the guard, whoever added them. Throws GuardError. */
  list(): GuardedTuple[] {
    const result = this.#run(LIST_COMMANDS, "ENOENT");
    return result.ok ? parseElements(result.output) : [];
  }

  /**
   * What is in the guard stays there; a table that is empty goes. That this may be refused is no error: an empty
   * table does nothing, and the next to close finds it.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#nft.run(DROP_COMMANDS);
    this.#nft.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #addBatch(batch: readonly GuardedTuple[], lifetimeS: number | undefined): void {
    this.#untilSettled(() => {
      if (this.#run(addCommands(batch, lifetimeS), "ENOENT").ok) return true;
      return this.#run(createCommands(batch, lifetimeS), "EEXIST").ok;
    });
  }

  #removeBatch(batch: readonly GuardedTuple[]): void {
    let rest = batch;
    this.#untilSettled(() => {
      if (rest.length === 0 || this.#run(removeCommands(rest), "ENOENT").ok) return true;
      const present = new Set(this.list().map(elementKey));
      rest = rest.filter((tuple) => present.has(elementKey(tuple)));
      return false;
    });
  }

  #untilSettled(attempt: () => boolean): void {
    for (let i = 0; i < ATTEMPTS_MAX; i++) if (attempt()) return;
    throw new Error(`another process changed the guard ${ATTEMPTS_MAX} times in a row`);
  }

  /** The result, when it is a success or one of the `expected` refusals. Throws GuardError for others. */
  #run(commands: string, ...expected: readonly string[]): NftResult {
    const result = this.#nft.run(commands);
    if (!result.ok && !expected.includes(result.reason)) throw result.error satisfies GuardError;
    return result;
  }
}

function batchesOf<T>(items: readonly T[], max = BATCH_MAX): T[][] {
  const batches: T[][] = [];
  for (let at = 0; at < items.length; at += max) batches.push(items.slice(at, at + max));
  return batches;
}
