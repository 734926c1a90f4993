/** The keeper's thread as its owner sees it: add and remove pools, stop. */
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { wakeEventFd } from "../native/eventfd.ts";
import { EntryTable } from "./entry-table.ts";
import type { GateShare } from "./gate.ts";
import type { KeeperRecord, KeeperSettlement } from "./handover.ts";
import type { HearingKind } from "./hearing.ts";
import type { FromKeeper, KeeperThreadData, ToKeeper } from "./keeper-thread.ts";
import type { KernelObjects } from "./kernel-objects.ts";
import type { Logger } from "./logger.ts";
import type { PoolShare } from "./pool-block.ts";
import type { PoolSpec } from "./pool-spec.ts";
import { bootSecret } from "./sequence.ts";
import { KeeperSignal } from "./signal.ts";

/** What a thread needs besides a pool's share to take from it; structured-cloneable. */
export interface KeeperShare {
  readonly table: SharedArrayBuffer;
  readonly signal: SharedArrayBuffer;
  readonly wakeFd: number;
  /** SO_MARK of all that is sent to upstreams. */
  readonly mark: number | undefined;
}

/** A pool that could not be started. `code` is ACCEL_ and the failed system call's symbol, e.g. ACCEL_EPERM. */
export class PoolError extends Error {
  override readonly name = "PoolError";
  readonly code: string;

  constructor(symbol: string, message: string) {
    super(message);
    this.code = `ACCEL_${symbol}`;
  }
}

interface Waiter {
  readonly resolve: (share: PoolShare) => void;
  readonly reject: (error: Error) => void;
}

export interface KeeperHandleOptions {
  readonly hearing?: HearingKind;
  /** What reservations share with sessions. */
  readonly descriptors?: GateShare;
  /** See KeeperOptions. */
  readonly secret?: Uint8Array;
  readonly isHeld?: boolean;
  readonly objects?: KernelObjects | undefined;
  readonly mark?: number | undefined;
  /** The thread does not keep its process alive. */
  readonly isBackground?: boolean;
}

export class KeeperHandle {
  readonly share: KeeperShare;
  /** What sequence numbers are made with: another process that goes on needs the same. */
  readonly secret: Uint8Array;
  readonly #worker: Worker;
  readonly #log: Logger;
  readonly #waiting = new Map<number, Waiter>();
  #onHandedOver: ((record: KeeperRecord) => void) | undefined;
  #onAdopted: (() => void) | undefined;
  #onStopped: (() => void) | undefined;
  #onPong: (() => void) | undefined;
  #nextId = 1;

  private constructor(worker: Worker, share: KeeperShare, secret: Uint8Array, log: Logger) {
    this.#worker = worker;
    this.secret = secret;
    this.#log = log;
    this.share = share;
    worker.on("message", (message: FromKeeper) => this.#onMessage(message));
  }

  /**
   * Starts the thread, whose lines from `logLevel` up go to `log`. `onCrash` is told when it ends without
   * having been stopped: our bug. `descriptors` is what its reservations share with sessions.
   */
  static async start(
    logLevel: string,
    log: Logger,
    onCrash: (error: Error) => void,
    options: KeeperHandleOptions = {},
  ): Promise<KeeperHandle> {
    const { hearing = "auto", descriptors, secret, isHeld = false, isBackground = false } = options;
    const { objects, mark } = options;
    const data: KeeperThreadData = {
      table: new EntryTable().buffer,
      signal: KeeperSignal.newBuffer(),
      logLevel,
      hearing,
      descriptors,
      secret: secret ?? bootSecret(),
      isHeld,
      objects,
      mark,
    };
    const script = new URL(`./keeper-thread${extname(import.meta.url)}`, import.meta.url);
    const worker = new Worker(script, { workerData: data });
    worker.on("error", onCrash);
    const wakeFd = await new Promise<number>((resolve, reject) => {
      const onMessage = (message: FromKeeper): void => {
        if (message.kind === "log") log[message.level](message.fields, message.message);
        if (message.kind !== "started") return;
        worker.off("message", onMessage);
        resolve(message.wakeFd);
      };
      worker.on("message", onMessage);
      worker.once("error", reject);
    });
    const share = { table: data.table, signal: data.signal, wakeFd, mark };
    const handle = new KeeperHandle(worker, share, data.secret, log);
    if (isBackground) worker.unref(); // last, since a listener for messages takes it back
    return handle;
  }

  /** Starts a pool. Rejects with PoolError ACCEL_EPERM without CAP_NET_RAW or CAP_NET_ADMIN. */
  addPool(spec: Omit<PoolSpec, "id">): Promise<PoolShare> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#send({ kind: "add", spec: { ...spec, id } });
    });
  }

  /** Gives up a pool's half-opens; what is leased goes on. */
  removePool(id: number): void {
    this.#send({ kind: "remove", id });
  }

  /** What it has, for another process to go on with; from now on it keeps nothing. The descriptors stay its own. */
  handOver(): Promise<KeeperRecord> {
    return new Promise((resolve) => {
      this.#onHandedOver = resolve;
      this.#send({ kind: "handOver" });
    });
  }

  /** The other process did not go on: begins anew. */
  takeBack(): void {
    this.#send({ kind: "takeBack" });
  }

  /** Goes on with what another process kept, whose descriptors become the thread's. It was started `isHeld`. */
  adopt(record: KeeperRecord): Promise<void> {
    return new Promise((resolve) => {
      this.#onAdopted = resolve;
      this.#send({ kind: "adopt", record });
    });
  }

  /** Tells it what became known since it handed over or adopted. */
  settle(settlement: KeeperSettlement): void {
    this.#send({ kind: "settle", settlement });
  }

  /** Resolves when the thread answers. One at a time. */
  ping(): Promise<void> {
    return new Promise((resolve) => {
      this.#onPong = resolve;
      this.#send({ kind: "ping" });
    });
  }

  /** Gives up every half-open, unless another process has them, and ends the thread. */
  async stop(): Promise<void> {
    const exited = new Promise<void>((resolve) => {
      this.#onStopped = resolve;
      this.#worker.once("exit", () => resolve());
    });
    this.#worker.ref();
    this.#send({ kind: "stop" });
    await exited;
    await this.#worker.terminate();
  }

  /** The same for a process about to exit: blocks until the half-opens are given up, `limitMs` at most. */
  stopNow(limitMs: number): void {
    this.#send({ kind: "stop" });
    new KeeperSignal(this.share.signal, this.share.wakeFd).awaitEnd(limitMs);
  }

  #send(message: ToKeeper): void {
    this.#worker.postMessage(message);
    wakeEventFd(this.share.wakeFd);
  }

  #onMessage(message: FromKeeper): void {
    if (message.kind === "stopped") {
      this.#onStopped?.();
      return;
    }
    if (message.kind === "started") return;
    if (message.kind === "pong") {
      this.#onPong?.();
      return;
    }
    if (message.kind === "handedOver") {
      this.#onHandedOver?.(message.record);
      return;
    }
    if (message.kind === "adopted") {
      this.#onAdopted?.();
      return;
    }
    if (message.kind === "log") {
      this.#log[message.level](message.fields, message.message);
      return;
    }
    const id = message.kind === "added" ? message.share.id : message.id;
    const waiter = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (message.kind === "added") waiter?.resolve(message.share);
    else waiter?.reject(new PoolError(message.code, message.message));
  }
}
