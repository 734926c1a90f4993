/**
 * The driver on epoll, for kernels and containers where io_uring is off. Requests wait in a queue until run(),
 * which tries each; what would block waits for its descriptor's edge and is tried again.
 *
 *   queued ──run()──▶ tried ──▶ complete
 *     ▲                 │ EAGAIN                 │ no buffer
 *     │                 ▼                        ▼
 *     └──edge──── waiting (one per direction)   parked ──release()──▶ queued
 *
 * Edges come once. One that nobody waited for is remembered as READABLE, so that a receive which begins later
 * is tried; where nothing is remembered it waits without a system call. The end of a stream (RDHUP, HUP, ERR)
 * is remembered for good. Read epoll(7) and nginx's ngx_unix_recv() first.
 */
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "../../native/abi/epoll.ts";
import { EAGAIN, ECANCELED, EINPROGRESS } from "../../native/abi/errno.ts";
import { BufferStack } from "../../native/epoll/buffers.ts";
import { Epoll } from "../../native/epoll/epoll.ts";
import {
  acceptOne,
  connectResult,
  receiveInto,
  sendFrom,
  setNonBlocking,
  startConnect,
} from "../../native/epoll/socket-io.ts";
import { SyscallError } from "../../native/errno.ts";
import { copyMemory, Memory } from "../../native/memory.ts";
import { closeDescriptor, drainEventfd, shutdownSocket } from "../../native/ring/direct.ts";
import {
  ACCEPT,
  BULK,
  CANCELLED,
  CONNECT,
  MORE,
  RECV,
  RequestTable,
  SEND,
} from "../../native/ring/requests.ts";
import {
  type CompletionHandler,
  type Driver,
  SEND_BYTES_MAX,
  SLOT_MAX,
  SOCKADDR_BYTES_MAX,
  WAKE_SLOT,
} from "./driver.ts";
import { DriverBuffers } from "./driver-buffers.ts";
import { IntQueue } from "./int-queue.ts";

export interface EpollDriverOptions {
  readonly bufferCount: number;
  readonly bufferSize: number;
  /** Large buffers for bulk receives; none unless told. */
  readonly bulk?: { readonly count: number; readonly size: number };
}

/** What is known of a descriptor; bits. */
const WATCHED = 1;
const READABLE = 2;
const ENDED = 4;
const CLOSING = 8;

/** Work that is not a request, in the queue as a negative number with the descriptor behind it. */
const CLOSE = -1;
const SHUTDOWN = -2; // and -3, -4: how = -2 - value

const NONE = -1;

export function createEpollDriver(options: EpollDriverOptions): Driver {
  return new EpollDriver(options);
}

class EpollDriver implements Driver {
  readonly name = "epoll";
  readonly buffers: DriverBuffers<BufferStack>;
  readonly #epoll = new Epoll();
  readonly #requests = new RequestTable(1024);
  /** By descriptor: bits, and the request that waits for input or output. */
  #known = new Uint8Array(1024);
  #readers = new Int32Array(1024).fill(NONE);
  #writers = new Int32Array(1024).fill(NONE);
  /** By request: where a send goes on, how much is left, how much is done. */
  #sendAt: number[] = [];
  #sendLeft: number[] = [];
  #sendDone: number[] = [];
  readonly #queue = new IntQueue();
  #wakeFd = NONE;
  #sockaddr = Memory.anonymous(SOCKADDR_BYTES_MAX);
  #running = false;
  #stopped = false;

  constructor({ bufferCount, bufferSize, bulk }: EpollDriverOptions) {
    this.buffers = new DriverBuffers(
      new BufferStack(bufferCount, bufferSize),
      bulk && new BufferStack(bulk.count, bulk.size),
    );
  }

  accept(fd: number, slot: number, tag: number): void {
    this.#queue.push(this.#open(ACCEPT, fd, slot, tag));
  }

  recv(fd: number, slot: number, tag: number, bulk = false): void {
    const index = this.#open(RECV, fd, slot, tag);
    if (bulk) this.#requests.mark(index, BULK);
    this.#queue.push(index);
  }

  send(fd: number, address: number, length: number, slot: number, tag: number, more = false): void {
    if (!(length >= 0 && length <= SEND_BYTES_MAX)) throw new RangeError(`send of ${length} bytes`);
    const index = this.#open(SEND, fd, slot, tag);
    this.#sendAt[index] = address;
    this.#sendLeft[index] = length;
    this.#sendDone[index] = 0;
    if (more) this.#requests.mark(index, MORE);
    this.#queue.push(index);
  }

  connect(fd: number, sockaddr: number, length: number, slot: number, tag: number): void {
    if (!(length >= 0 && length <= SOCKADDR_BYTES_MAX))
      throw new RangeError(`socket address of ${length} bytes`);
    const index = this.#open(CONNECT, fd, slot, tag);
    copyMemory(this.#sockaddr.address, sockaddr, length);
    // Begun at once, since the address is only lent; how it ended is asked when the socket is writable.
    this.#sendLeft[index] = this.#begin(fd, length);
    this.#queue.push(index);
  }

  cancel(slot: number, tag: number): void {
    this.#requireOpen();
    const index = this.#requests.find(slot, tag);
    if (index < 0 || this.#requests.has(index, CANCELLED)) return;
    this.#requests.mark(index, CANCELLED);
    const fd = this.#requests.fdOf(index);
    if (this.#readers[fd] === index) this.#readers[fd] = NONE;
    else if (this.#writers[fd] === index) this.#writers[fd] = NONE;
    else return; // queued or parked: met there
    this.#queue.push(index);
  }

  shutdown(fd: number, how: number): void {
    this.#requireOpen();
    this.#queue.push(SHUTDOWN - how);
    this.#queue.push(fd);
  }

  close(fd: number): void {
    this.#requireOpen();
    this.#queue.push(CLOSE);
    this.#queue.push(fd);
  }

  /** A watch lasts as long as the open file, which its next owner keeps: it has to be ended. */
  disown(fd: number): void {
    this.#requireOpen();
    if ((this.#known[fd] ?? 0) & WATCHED) this.#epoll.unwatch(fd);
    this.#known[fd] = 0;
  }

  release(bufferId: number): void {
    this.#requireOpen();
    this.buffers.release(bufferId);
  }

  wake(fd: number): void {
    this.#requireOpen();
    this.#wakeFd = fd;
    this.#epoll.watchLevel(fd);
  }

  run(timeoutMs: number, handler: CompletionHandler): number {
    this.#requireOpen();
    if (this.#running) throw new Error("run() called by a completion handler");
    this.#running = true;
    try {
      const isBounded = timeoutMs > 0 && timeoutMs !== Number.POSITIVE_INFINITY;
      const deadline = isBounded ? performance.now() + timeoutMs : 0;
      let left = Math.max(0, timeoutMs);
      let handed = this.#work(handler);
      for (;;) {
        const count = this.#epoll.wait(handed > 0 || this.#queue.length > 0 ? 0 : left);
        let isWoken = false;
        for (let at = 0; at < count; at++) {
          if (this.#epoll.fdAt(at) === this.#wakeFd) isWoken = true;
          else this.#onEvents(at);
        }
        handed += this.#work(handler);
        if (isWoken) handed += this.#onWake(handler);
        if (isBounded) left = deadline - performance.now();
        if (handed > 0 || left <= 0 || count === 0) return handed;
      }
    } finally {
      this.#running = false;
    }
  }

  stop(): void {
    if (this.#stopped) return;
    if (this.#running) throw new Error("stop() called by a completion handler");
    // What was queued to be closed has to be; nothing else is in anybody's hands.
    while (this.#queue.length > 0) {
      const item = this.#queue.shift();
      if (item >= 0) continue;
      const fd = this.#queue.shift();
      if (item === CLOSE) closeDescriptor(fd);
    }
    this.#known.forEach((bits, fd) => {
      if ((bits & CLOSING) !== 0) closeDescriptor(fd);
    });
    this.#stopped = true;
    this.#epoll.close();
    this.buffers.close();
    this.#sockaddr.close();
  }

  #requireOpen(): void {
    if (this.#stopped) throw new Error("driver used after stop()");
  }

  #open(kind: number, fd: number, slot: number, tag: number): number {
    this.#requireOpen();
    if ((slot | 0) !== slot || slot < 0 || slot > SLOT_MAX || (tag | 0) !== tag) {
      throw new RangeError(`slot ${slot} or tag ${tag} out of range`);
    }
    if (fd >= this.#known.length) this.#grow(fd + 1);
    return this.#requests.open(kind, fd, slot, tag);
  }

  #grow(atLeast: number): void {
    const size = 2 ** Math.ceil(Math.log2(atLeast));
    const widen = <T extends Uint8Array | Int32Array>(wide: T, old: T): T => {
      wide.set(old);
      return wide;
    };
    this.#known = widen(new Uint8Array(size), this.#known);
    this.#readers = widen(new Int32Array(size).fill(NONE), this.#readers);
    this.#writers = widen(new Int32Array(size).fill(NONE), this.#writers);
  }

  /** Does what is queued now; what handlers queue waits for the next run(). */
  #work(handler: CompletionHandler): number {
    this.#resumeParked();
    let handed = 0;
    for (let left = this.#queue.length; left > 0; left--) {
      const item = this.#queue.shift();
      if (item >= 0) {
        handed += this.#try(item, handler);
        continue;
      }
      left--;
      if (item === CLOSE) this.#close(this.#queue.shift());
      else shutdownSocket(this.#queue.shift(), SHUTDOWN - item);
    }
    return handed;
  }

  #try(index: number, handler: CompletionHandler): number {
    if (this.#requests.has(index, CANCELLED)) return this.#cancelled(index, handler);
    switch (this.#requests.kindOf(index)) {
      case RECV:
        return this.#tryRecv(index, handler);
      case SEND:
        return this.#trySend(index, handler);
      case ACCEPT:
        return this.#tryAccept(index, handler);
      default:
        return this.#tryConnect(index, handler);
    }
  }

  /** A send that had moved bytes says so; everything else ends with -ECANCELED. */
  #cancelled(index: number, handler: CompletionHandler): number {
    const done = this.#requests.kindOf(index) === SEND ? this.#sendDone[index]! : 0;
    return this.#finish(index, done > 0 ? done : -ECANCELED, NONE, handler);
  }

  #tryRecv(index: number, handler: CompletionHandler): number {
    const fd = this.#requests.fdOf(index);
    if (!this.#mayRead(fd, index, handler)) return 0;
    if (this.#requests.kindOf(index) !== RECV) return 1; // the descriptor was bad
    if ((this.#known[fd]! & (READABLE | ENDED)) === 0) {
      this.#readers[fd] = index;
      return 0;
    }
    const bufferId = this.#takeBuffer(this.#requests.has(index, BULK));
    if (bufferId === NONE) {
      this.#requests.park(index);
      return 0;
    }
    const size = this.buffers.sizeOf(bufferId);
    const result = receiveInto(fd, this.buffers.address(bufferId), size);
    // Less than a buffer was all there was; more brings another edge.
    if (result < size) this.#known[fd] = this.#known[fd]! & ~READABLE;
    if (result > 0) {
      const isMore = (this.#known[fd]! & (READABLE | ENDED)) !== 0;
      return this.#finish(index, result, bufferId, handler, isMore);
    }
    this.buffers.release(bufferId);
    if (result !== -EAGAIN) return this.#finish(index, result, NONE, handler);
    this.#known[fd] = this.#known[fd]! & ~ENDED;
    this.#readers[fd] = index;
    return 0;
  }

  /** A buffer, large if asked for and there is one; NONE when no ordinary one is left. */
  #takeBuffer(isBulk: boolean): number {
    const { ordinary, bulk } = this.buffers;
    const id = isBulk && bulk ? bulk.take() : NONE;
    return id === NONE ? ordinary.take() : this.buffers.bulkId(id);
  }

  #trySend(index: number, handler: CompletionHandler): number {
    const fd = this.#requests.fdOf(index);
    const more = this.#requests.has(index, MORE);
    const result = sendFrom(fd, this.#sendAt[index]!, this.#sendLeft[index]!, more);
    if (result === -EAGAIN) return this.#waitWriter(fd, index, handler);
    const done = this.#sendDone[index]!;
    if (result < 0) return this.#finish(index, done > 0 ? done : result, NONE, handler);
    this.#sendDone[index] = done + result;
    if (result === this.#sendLeft[index]!) return this.#finish(index, done + result, NONE, handler);
    this.#sendAt[index] = this.#sendAt[index]! + result;
    this.#sendLeft[index] = this.#sendLeft[index]! - result;
    return this.#trySend(index, handler);
  }

  #tryAccept(index: number, handler: CompletionHandler): number {
    const fd = this.#requests.fdOf(index);
    if ((this.#known[fd]! & WATCHED) === 0) {
      try {
        setNonBlocking(fd);
      } catch (error) {
        if (!(error instanceof SyscallError)) throw error;
        return this.#finish(index, -error.errno, NONE, handler);
      }
      if (!this.#mayRead(fd, index, handler)) return 1;
    }
    const result = acceptOne(fd);
    if (result !== -EAGAIN) return this.#finish(index, result, NONE, handler);
    this.#readers[fd] = index;
    return 0;
  }

  #tryConnect(index: number, handler: CompletionHandler): number {
    const result = this.#sendLeft[index]!;
    if (result !== -EINPROGRESS) return this.#finish(index, result, NONE, handler);
    // From now on an edge means that it is over.
    this.#sendLeft[index] = 0;
    return this.#waitWriter(this.#requests.fdOf(index), index, handler);
  }

  #begin(fd: number, length: number): number {
    try {
      setNonBlocking(fd);
    } catch (error) {
      if (error instanceof SyscallError) return -error.errno;
      throw error;
    }
    return startConnect(fd, this.#sockaddr.address, length);
  }

  #waitWriter(fd: number, index: number, handler: CompletionHandler): number {
    this.#writers[fd] = index;
    return this.#mayRead(fd, index, handler) ? 0 : 1;
  }

  /** Watches a descriptor from its first wait on. False: it cannot be, and the request has ended so. */
  #mayRead(fd: number, index: number, handler: CompletionHandler): boolean {
    if ((this.#known[fd]! & WATCHED) !== 0) return true;
    try {
      this.#epoll.watch(fd);
      this.#known[fd] = this.#known[fd]! | WATCHED;
      return true;
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      this.#finish(index, -error.errno, NONE, handler);
      return false;
    }
  }

  #onWake(handler: CompletionHandler): number {
    const sum = drainEventfd(this.#wakeFd);
    if (sum === 0) return 0;
    handler.complete(WAKE_SLOT, 0, sum, NONE, true);
    return 1;
  }

  /** Queues what waited for these events. */
  #onEvents(at: number): void {
    const fd = this.#epoll.fdAt(at);
    const events = this.#epoll.eventsAt(at);
    const isOver = (events & (EPOLLHUP | EPOLLERR)) !== 0;
    if (isOver || (events & EPOLLRDHUP) !== 0) this.#known[fd] = this.#known[fd]! | ENDED;
    if ((events & EPOLLIN) !== 0) this.#known[fd] = this.#known[fd]! | READABLE;
    const reader = this.#readers[fd]!;
    if (reader !== NONE && (isOver || (events & (EPOLLIN | EPOLLRDHUP)) !== 0)) {
      this.#readers[fd] = NONE;
      this.#queue.push(reader);
    }
    const writer = this.#writers[fd]!;
    if (writer !== NONE && (isOver || (events & EPOLLOUT) !== 0)) {
      this.#writers[fd] = NONE;
      if (this.#requests.kindOf(writer) === CONNECT) this.#sendLeft[writer] = connectResult(fd);
      this.#queue.push(writer);
    }
  }

  /** Queues parked receives again, one per free buffer, and those that were cancelled. */
  #resumeParked(): void {
    let free = this.buffers.ordinary.free;
    for (let n = this.#requests.parked; n > 0; n--) {
      const index = this.#requests.unpark();
      if (this.#requests.has(index, CANCELLED)) this.#queue.push(index);
      else if (free > 0) {
        free -= 1;
        this.#queue.push(index);
      } else {
        this.#requests.park(index);
      }
    }
  }

  /** Closes now, or after the last request that waits on the descriptor. */
  #close(fd: number): void {
    if (fd < 0 || fd >= this.#known.length) {
      closeDescriptor(fd);
      return;
    }
    if (this.#readers[fd] !== NONE || this.#writers[fd] !== NONE) {
      this.#known[fd] = this.#known[fd]! | CLOSING;
      return;
    }
    this.#known[fd] = 0;
    closeDescriptor(fd);
  }

  #finish(index: number, result: number, bufferId: number, handler: CompletionHandler, more = false): number {
    const fd = this.#requests.fdOf(index);
    const slot = this.#requests.slotOf(index);
    const tag = this.#requests.tagOf(index);
    if (this.#readers[fd] === index) this.#readers[fd] = NONE;
    if (this.#writers[fd] === index) this.#writers[fd] = NONE;
    this.#requests.close(index);
    if ((this.#known[fd]! & CLOSING) !== 0) this.#close(fd);
    handler.complete(slot, tag, result, bufferId, more);
    return 1;
  }
}
