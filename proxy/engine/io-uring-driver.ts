import { ECANCELED, EINTR, ENOBUFS } from "../../native/abi/errno.ts";
import {
  IORING_ASYNC_CANCEL_ALL,
  IORING_ASYNC_CANCEL_ANY,
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F_BUFFER,
  IORING_CQE_F_MORE,
  IORING_CQE_F_SOCK_NONEMPTY,
} from "../../native/abi/io_uring.ts";
import { SyscallError } from "../../native/errno.ts";
import { BufferRing } from "../../native/ring/buffers.ts";
import { closeDescriptor, drainEventfd, shutdownSocket } from "../../native/ring/direct.ts";
import {
  ACCEPT,
  BULK,
  CANCELLED,
  CONNECT,
  PARKED,
  PATIENT,
  RECV,
  RequestTable,
  SEND,
  WAKE,
} from "../../native/ring/requests.ts";
import { Ring, type RingOptions } from "../../native/ring/ring.ts";
import type { RingFeature } from "../../native/ring/setup.ts";
import { UNWATCHED } from "../../native/ring/submission.ts";
import {
  type CompletionHandler,
  type Driver,
  SEND_BYTES_MAX,
  SLOT_MAX,
  SOCKADDR_BYTES_MAX,
  WAKE_SLOT,
} from "./driver.ts";
import { DriverBuffers } from "./driver-buffers.ts";

export interface IoUringDriverOptions extends RingOptions {
  /** Receive buffers, 1 .. 32768, and how many of them are in the ring at a time (default: all). */
  readonly bufferCount: number;
  readonly bufferKeep?: number;
  /** Bytes of each. */
  readonly bufferSize: number;
  /** Large buffers for bulk receives; none unless told. */
  readonly bulk?: { readonly count: number; readonly keep: number; readonly size: number };
}

const BUFFER_GROUP = 0;
const BULK_GROUP = 1;

/** The driver on io_uring, with what a status page wants to know about it. */
export interface IoUringDriver extends Driver {
  readonly name: "io_uring";
  /** The optional and required features in use. */
  readonly features: ReadonlySet<RingFeature>;
}

/**
 * A driver on a new io_uring, for the calling thread only. Throws RingUnavailableError, which names what is
 * missing and the remedy, or RangeError for impossible sizes.
 */
export function createIoUringDriver(options: IoUringDriverOptions): IoUringDriver {
  return new UringDriver(options);
}

/** stop() cancels again after this long, and gives up after the second. */
const STOP_RETRY_MS = 50;
const STOP_LIMIT_MS = 5_000;

/**
 * Life of a receive, the one request that takes several tries:
 *
 *   recv() ──▶ queued ──data──▶ done
 *                │ no buffer              ┌────────── no buffer ──────────┐
 *                ▼                        │                               │
 *              queued with POLL_FIRST ──data, no buffer──▶ parked ──release()──▶ queued
 *                └──data──▶ done                                             └──data──▶ done
 *
 * The kernel wants a buffer before it looks for data, so the first failure means little. With POLL_FIRST it
 * looks for data first: whoever is parked has data waiting, so that a buffer given to it is used at once and
 * waking one receive per free buffer leaves nobody behind.
 */
class UringDriver implements IoUringDriver {
  readonly name = "io_uring";
  readonly buffers: DriverBuffers<BufferRing>;
  readonly features: ReadonlySet<RingFeature>;
  readonly #ring: Ring;
  readonly #requests: RequestTable;
  #cancelledParked = 0;
  #running = false;
  #stopped = false;

  constructor(options: IoUringDriverOptions) {
    this.#ring = new Ring(options);
    try {
      const { bufferCount, bufferKeep, bufferSize, bulk } = options;
      const { fd } = this.#ring;
      this.buffers = new DriverBuffers(
        new BufferRing(fd, BUFFER_GROUP, bufferCount, bufferSize, bufferKeep),
        bulk && new BufferRing(fd, BULK_GROUP, bulk.count, bulk.size, bulk.keep),
      );
    } catch (error) {
      this.#ring.close();
      throw error;
    }
    this.features = this.#ring.features;
    this.#requests = new RequestTable(this.#ring.submissions.entries * 4);
  }

  accept(fd: number, slot: number, tag: number): void {
    const index = this.#open(ACCEPT, fd, slot, tag);
    this.#ring.reserve().accept(fd, index);
  }

  recv(fd: number, slot: number, tag: number, bulk = false): void {
    const index = this.#open(RECV, fd, slot, tag);
    const { ordinary, bulk: large } = this.buffers;
    if (bulk && large !== undefined && large.free > 0) {
      this.#requests.mark(index, BULK);
      this.#ring.reserve().recv(fd, BULK_GROUP, false, index);
      return;
    }
    if (ordinary.free === 0) this.#requests.mark(index, PATIENT);
    this.#queueRecv(index, ordinary.free === 0);
  }

  send(fd: number, address: number, length: number, slot: number, tag: number, more = false): void {
    if (!(length >= 0 && length <= SEND_BYTES_MAX)) throw new RangeError(`send of ${length} bytes`);
    const index = this.#open(SEND, fd, slot, tag);
    this.#ring.reserve().send(fd, address, length, index, more);
  }

  connect(fd: number, sockaddr: number, length: number, slot: number, tag: number): void {
    if (!(length >= 0 && length <= SOCKADDR_BYTES_MAX)) {
      throw new RangeError(`socket address of ${length} bytes`);
    }
    const index = this.#open(CONNECT, fd, slot, tag);
    this.#ring.reserve().connect(fd, sockaddr, length, index);
  }

  cancel(slot: number, tag: number): void {
    this.#requireOpen();
    const index = this.#requests.find(slot, tag);
    if (index < 0 || slot === WAKE_SLOT || this.#requests.has(index, CANCELLED)) return;
    // The mark covers a request that is on its way back to be queued again, where the kernel finds nothing.
    this.#requests.mark(index, CANCELLED);
    if (this.#requests.has(index, PARKED)) this.#cancelledParked++;
    else this.#ring.reserve().cancel(index);
  }

  shutdown(fd: number, how: number): void {
    this.#requireOpen();
    if (this.#ring.submissions.hasPendingOn(fd)) this.#ring.flush();
    shutdownSocket(fd, how);
  }

  close(fd: number): void {
    this.#requireOpen();
    this.#ring.reserve().close(fd);
  }

  /** The ring knows descriptors only by their requests. */
  disown(): void {
    this.#requireOpen();
  }

  release(bufferId: number): void {
    this.#requireOpen();
    this.buffers.release(bufferId);
  }

  wake(fd: number): void {
    this.#requireOpen();
    this.#ring.reserve().pollReadable(fd, this.#requests.open(WAKE, fd, WAKE_SLOT, 0));
  }

  run(timeoutMs: number, handler: CompletionHandler): number {
    this.#requireOpen();
    if (this.#running) throw new Error("run() called by a completion handler");
    this.#running = true;
    try {
      const isBounded = timeoutMs > 0 && timeoutMs !== Infinity;
      const deadline = isBounded ? performance.now() + timeoutMs : 0;
      let left = timeoutMs;
      for (;;) {
        let handed = this.#cancelledParked > 0 ? this.#completeCancelled(handler) : 0;
        this.#resumeParked();
        const outcome = this.#ring.enter(handed > 0 ? 0 : left);
        handed += this.#dispatch(handler);
        // Without a completion for the caller there was one of our own, or the kernel hid a timeout
        // behind the number of entries it took.
        if (handed > 0 || outcome === "interrupted" || left <= 0) return handed;
        if (isBounded) left = deadline - performance.now();
        if (left <= 0) return 0;
      }
    } finally {
      this.#running = false;
    }
  }

  stop(): void {
    if (this.#stopped) return;
    if (this.#running) throw new Error("stop() called by a completion handler");
    this.#stopped = true;
    const requests = this.#requests;
    for (let index = requests.unpark(); index >= 0; index = requests.unpark()) requests.close(index);
    const deadline = performance.now() + STOP_LIMIT_MS;
    do {
      this.#ring.reserve().cancelMatching(IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
      this.#ring.enter(requests.inProgress > 0 ? STOP_RETRY_MS : 0);
      this.#discard();
      // Freeing memory the kernel may still write to would be worse than failing.
      if (performance.now() > deadline) throw new Error(`${requests.inProgress} requests did not end`);
    } while (requests.inProgress > 0 || this.#ring.submissions.pending > 0);
    this.#ring.close();
    this.buffers.close();
  }

  #requireOpen(): void {
    if (this.#stopped) throw new Error("driver used after stop()");
  }

  #open(kind: number, fd: number, slot: number, tag: number): number {
    this.#requireOpen();
    if ((slot | 0) !== slot || slot < 0 || slot > SLOT_MAX || (tag | 0) !== tag) {
      throw new RangeError(`slot ${slot} or tag ${tag} out of range`);
    }
    return this.#requests.open(kind, fd, slot, tag);
  }

  #queueRecv(index: number, pollFirst: boolean): void {
    this.#ring.reserve().recv(this.#requests.fdOf(index), BUFFER_GROUP, pollFirst, index);
  }

  /** Queues one parked receive per free buffer. */
  #resumeParked(): void {
    for (let n = Math.min(this.#requests.parked, this.buffers.ordinary.free); n > 0; n--) {
      const index = this.#requests.unpark();
      if (this.#requests.has(index, CANCELLED)) this.#requests.park(index);
      else this.#queueRecv(index, false);
    }
  }

  /** Completes the parked receives that cancel() named; the others keep their order. */
  #completeCancelled(handler: CompletionHandler): number {
    let handed = 0;
    for (let n = this.#requests.parked; n > 0; n--) {
      const index = this.#requests.unpark();
      if (!this.#requests.has(index, CANCELLED)) {
        this.#requests.park(index);
        continue;
      }
      this.#cancelledParked--;
      handed++;
      this.#finish(index, -ECANCELED, -1, handler);
    }
    return handed;
  }

  /** Hands over what is in the completion queue now; what handlers cause comes with the next run(). */
  #dispatch(handler: CompletionHandler): number {
    const { completions } = this.#ring;
    let handed = 0;
    try {
      for (let n = completions.available; n > 0; n--) {
        completions.next();
        if (this.#settle(completions.userData, completions.result, completions.flags, handler)) handed++;
      }
    } finally {
      completions.publish();
    }
    return handed;
  }

  /** Handles one completion; false when the caller has no part in it. */
  #settle(index: number, result: number, flags: number, handler: CompletionHandler): boolean {
    if (index === UNWATCHED) return false;
    switch (this.#requests.kindOf(index)) {
      case RECV:
        return this.#settleRecv(index, result, flags, handler);
      case WAKE:
        return this.#settleWake(index, result, handler);
      default:
        // A send that a kernel thread had taken over is interrupted rather than cancelled.
        if (result !== -EINTR || !this.#requests.has(index, CANCELLED))
          return this.#finish(index, result, -1, handler);
        return this.#finish(index, -ECANCELED, -1, handler);
    }
  }

  #settleRecv(index: number, result: number, flags: number, handler: CompletionHandler): boolean {
    const isBulk = this.#requests.has(index, BULK);
    if ((flags & IORING_CQE_F_BUFFER) !== 0) {
      const { ordinary, bulk } = this.buffers;
      const ring = isBulk ? bulk! : ordinary;
      const id = flags >>> IORING_CQE_BUFFER_SHIFT;
      ring.take(id);
      if (result > 0) {
        const isMore = (flags & IORING_CQE_F_SOCK_NONEMPTY) !== 0;
        return this.#finish(index, result, isBulk ? this.buffers.bulkId(id) : id, handler, isMore);
      }
      ring.release(id); // the end of a stream or an error may use up a buffer too
    }
    if (result !== -ENOBUFS) return this.#finish(index, result, -1, handler);
    if (this.#requests.has(index, CANCELLED)) return this.#finish(index, -ECANCELED, -1, handler);
    if (isBulk) {
      this.#requests.unmark(index, BULK);
      this.#queueRecv(index, false);
    } else if (this.#requests.has(index, PATIENT)) {
      this.#requests.park(index);
    } else {
      this.#requests.mark(index, PATIENT);
      this.#queueRecv(index, true);
    }
    return false;
  }

  #settleWake(index: number, result: number, handler: CompletionHandler): boolean {
    const fd = this.#requests.fdOf(index);
    if (result < 0) {
      this.#requests.close(index);
      throw new SyscallError("poll of the wake-up eventfd", -result, { fd });
    }
    // Before the poll is queued again, so that it sees only what comes later.
    const sum = drainEventfd(fd);
    this.#ring.reserve().pollReadable(fd, index);
    if (sum === 0) return false;
    handler.complete(WAKE_SLOT, 0, sum, -1, true);
    return true;
  }

  #finish(
    index: number,
    result: number,
    bufferId: number,
    handler: CompletionHandler,
    more = false,
  ): boolean {
    const slot = this.#requests.slotOf(index);
    const tag = this.#requests.tagOf(index);
    this.#requests.close(index);
    handler.complete(slot, tag, result, bufferId, more);
    return true;
  }

  /** Ends requests without telling anyone. */
  #discard(): void {
    const { completions } = this.#ring;
    for (let n = completions.available; n > 0; n--) {
      completions.next();
      const { userData: index, result, flags } = completions;
      if (index === UNWATCHED) continue;
      if (this.#requests.kindOf(index) === ACCEPT && result >= 0) closeDescriptor(result);
      if ((flags & IORING_CQE_F_MORE) === 0) this.#requests.close(index);
    }
    completions.publish();
  }
}
