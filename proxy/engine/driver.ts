/**
 * The completion driver: what an engine worker asks of the kernel. A worker queues requests, then calls
 * run(), which hands back completions; io_uring does so by itself, epoll imitates it.
 *
 * - One driver belongs to one thread. Only the eventfd of wake() crosses threads.
 * - A request is named by (slot, tag): slot 0 .. SLOT_MAX, tag any signed 32-bit integer; anything else throws
 *   RangeError. Both come back unchanged. Two requests in progress should differ, else cancel() means the newest.
 * - Every request completes exactly once, in any order. Until then it holds its connection:
 *   close() gives up the number at once, but the peer sees the end only after the last request on it is over.
 *   So cancel first, then close.
 * - Requests on blocking and on non-blocking descriptors behave alike; a driver may make one non-blocking.
 * - A descriptor that had a request is closed through close(), so that the driver knows when its number means
 *   another file.
 */

/** The slot under which wake-ups complete; no request may use it. */
export const WAKE_SLOT = 0x7fff_ffff;

/** The largest slot of a request. */
export const SLOT_MAX = WAKE_SLOT - 1;

/** The largest `length` of one send(), 2^31 - 4096: what one system call of Linux moves (MAX_RW_COUNT). */
export const SEND_BYTES_MAX = 0x7fff_f000;

/** The largest `length` of connect(), bytes: sizeof(struct sockaddr_storage). */
export const SOCKADDR_BYTES_MAX = 128;

/** Receives completions. It may queue new requests, but must not call run() or stop(). */
export interface CompletionHandler {
  /**
   * One completion of the request queued as (slot, tag). `result` is >= 0 or -errno. `bufferId` is the
   * buffer a recv() filled with `result` bytes, the caller's until release(); -1 otherwise. `more` says of a
   * wake-up that it stays armed, and of a recv() that something is there behind its bytes, more of them or their
   * end, as far as the driver knows. What it throws leaves run(); the remaining completions come with the next run().
   */
  complete(slot: number, tag: number, result: number, bufferId: number, more: boolean): void;
}

/** The receive buffers of a driver. A buffer is the caller's from the completion that names it until release(). */
export interface ReceiveBuffers {
  /** How many there are for receives that are not bulk. */
  readonly count: number;
  /** Where a buffer lies, for send(). */
  address(bufferId: number): number;
  /** The first `length` bytes of a buffer. */
  bytes(bufferId: number, length: number): Uint8Array;
}

export interface Driver {
  readonly name: "io_uring" | "epoll";
  readonly buffers: ReceiveBuffers;

  /**
   * Accepts one connection: completes with a descriptor that is SOCK_NONBLOCK | SOCK_CLOEXEC and now the
   * caller's, or with -errno (-EMFILE, -ENFILE, -ECONNABORTED, -ECANCELED, …). One that arrives while a cancel() is
   * under way may complete in place of -ECANCELED. Nothing is taken off the backlog that was not asked for, so that
   * a caller without room leaves clients there; a request for each costs no more than a multishot one (measured).
   */
  accept(fd: number, slot: number, tag: number): void;

  /**
   * Receives once: completes with the number of bytes and a buffer, with 0 at the end of the stream, or with
   * -errno (-ECONNRESET, -ECANCELED, …). While no buffer is free it waits for a release(), first come first
   * served, and so do the end of a stream and resets: -ENOBUFS is never seen. One receive at a time per
   * socket: which of two gets which bytes is the kernel's choice. `bulk` asks for a large buffer, which it gets while
   * there are any; else it is served like the others.
   */
  recv(fd: number, slot: number, tag: number, bulk?: boolean): void;

  /**
   * Sends `length` bytes (0 .. SEND_BYTES_MAX) from `address`, in memory that stays put and unchanged until
   * completion. Completes with `length`, or with -errno (-EPIPE, -ECONNRESET, …); when an error or a cancel
   * cuts it short after some bytes went out, with their number, and the error meets the next request on
   * the socket. One send at a time per socket: two interleave. Keep `length` within a few socket buffers: a
   * send that had to wait for room 128 times goes on in a kernel thread of its own (io_uring/poll.c,
   * APOLL_MAX_RETRY), rightly but at more cost. An address computed for each call costs a number object of 16
   * bytes, the only one per request; addresses read from a plain array of mixed elements cost none. `more` promises
   * that another send or the end follows at once, so that the last segment can wait for it and carry it (MSG_MORE);
   * were the promise broken, it would leave after 0.2 s (tcp_check_probe_timer()).
   */
  send(fd: number, address: number, length: number, slot: number, tag: number, more?: boolean): void;

  /**
   * Connects to the socket address at `sockaddr`, which is copied: it only has to be valid until this call
   * returns. `length` is in bytes, at most SOCKADDR_BYTES_MAX. Completes with 0 or -errno (-ECONNREFUSED,
   * -ETIMEDOUT, …).
   */
  connect(fd: number, sockaddr: number, length: number, slot: number, tag: number): void;

  /**
   * Ends the request of this slot and tag: it completes with -ECANCELED, unless it was over before. The
   * cancel itself completes nothing, and one without a request does nothing.
   */
  cancel(slot: number, tag: number): void;

  /**
   * shutdown(2), after the requests queued before it have been started. A send that is still waiting for room
   * is cut off, so wait for its completion. Errors are dropped (ENOTCONN follows a reset).
   */
  shutdown(fd: number, how: number): void;

  /** Closes the descriptor after the requests queued before it have been started. Errors are dropped. */
  close(fd: number): void;

  /**
   * Gives up a descriptor that goes to another owner, who closes it. No request may be under way on it, and a run()
   * must have passed since the last shutdown().
   */
  disown(fd: number): void;

  /** Gives a receive buffer back. Throws RangeError when the caller does not own it. */
  release(bufferId: number): void;

  /**
   * Watches an eventfd, which stays the caller's and must stay open until stop(): writing to it from any
   * thread ends a run(). Each wake-up is drained and completes as (WAKE_SLOT, 0, n, -1, true), n being the
   * sum written since the last one (at most 2^31 - 1). Only the driver may read it.
   */
  wake(fd: number): void;

  /**
   * Submits what is queued, waits for a completion or `timeoutMs` (fractions count; Infinity: for ever, 0 or
   * less: only what is there), dispatches everything that is there and returns how many. A signal may end the
   * wait early with 0. Throws SyscallError when the kernel breaks off (out of memory), Error when called by a
   * handler or after stop().
   */
  run(timeoutMs: number, handler: CompletionHandler): number;

  /**
   * Cancels every request, waits until the kernel has let go of them, closes sockets accepted meanwhile and
   * frees the memory, `buffers` included. Nothing completes any more, and calling it again does nothing.
   */
  stop(): void;
}
