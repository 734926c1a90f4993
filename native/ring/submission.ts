import {
  IORING_OP_ACCEPT,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_BIND,
  IORING_OP_CLOSE,
  IORING_OP_CONNECT,
  IORING_OP_POLL_ADD,
  IORING_OP_RECV,
  IORING_OP_SEND,
  IORING_OP_URING_CMD,
  IORING_RECVSEND_POLL_FIRST,
  IOSQE_BUFFER_SELECT,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_LINK,
  io_sqring_offsets,
  io_uring_params,
  io_uring_sqe,
  SOCKET_URING_OP_SETSOCKOPT,
  SQE_FLAGS_SHIFT,
  SQE_IOPRIO_SHIFT,
  SQE_WORDS,
} from "../abi/io_uring.ts";
import { POLLIN } from "../abi/poll.ts";
import { MSG_MORE, MSG_NOSIGNAL, MSG_WAITALL, SOCK_CLOEXEC, SOCK_NONBLOCK } from "../abi/socket.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";

/** The user_data of entries nobody waits for: close and cancel. */
export const UNWATCHED = -1;

const SOCKADDR_ROOM = 128; // sizeof(struct sockaddr_storage)
const { opcode, fd: FD, off, addr, len, op_flags, user_data, buf_group } = io_uring_sqe;
const { cmd_op, level: LEVEL, optname, optlen, optval } = io_uring_sqe;

/**
 * The submission queue: one method per operation, each filling one entry of 64 bytes. Nothing reaches the
 * kernel before Ring.enter() or Ring.flush(). `userData` is any 32-bit integer and comes back as it is.
 *
 * Ownership of the indices: the kernel advances head, inside io_uring_enter() only (no SQPOLL); we advance
 * tail. The caller makes room (`isFull`, Ring.flush()) before it queues.
 */
export class SubmissionQueue {
  readonly #control: Int32Array;
  readonly #head: number;
  readonly #tail: number;
  readonly #mask: number;
  readonly #words: Int32Array;
  readonly #sockaddrs: Memory;
  readonly #skipSuccess: number;
  #next = 0; // our tail; a signed 32-bit integer that wraps like the kernel's
  #headSeen = 0; // what the kernel has taken at least
  readonly entries: number;

  /** Over mapped memory: `ring` with the indices, `sqes` with the entries, `params` as the kernel filled it. */
  constructor(ring: Memory, sqes: Memory, params: DataView, hasArray: boolean, hasCqeSkip: boolean) {
    const at = (field: number) => params.getUint32(io_uring_params.sq_off + field, true);
    this.entries = params.getUint32(io_uring_params.sq_entries, true);
    this.#control = new Int32Array(ring.buffer);
    this.#head = at(io_sqring_offsets.head) >> 2;
    this.#tail = at(io_sqring_offsets.tail) >> 2;
    this.#mask = this.entries - 1;
    this.#words = new Int32Array(sqes.buffer);
    this.#skipSuccess = hasCqeSkip ? IOSQE_CQE_SKIP_SUCCESS << SQE_FLAGS_SHIFT : 0;
    // One room per entry: an address has to last until its entry is submitted (IORING_FEAT_SUBMIT_STABLE),
    // and the entry is not written again before.
    this.#sockaddrs = Memory.anonymous(this.entries * SOCKADDR_ROOM);
    // Without NO_SQARRAY entries are submitted through an array of indices; ours are in order for ever.
    const array = at(io_sqring_offsets.array) >> 2;
    if (hasArray) for (let i = 0; i < this.entries; i++) this.#control[array + i] = i;
  }

  /** Entries queued and not yet taken by the kernel. */
  get pending(): number {
    return (this.#next - Atomics.load(this.#control, this.#head)) | 0;
  }

  /** Asks the kernel's index only when the one seen last says so: each entry is preceded by the question. */
  get isFull(): boolean {
    if (((this.#next - this.#headSeen) | 0) < this.entries) return false;
    this.#headSeen = (this.#next - this.pending) | 0;
    return this.pending >= this.entries;
  }

  /** Shows the queued entries to the kernel. The atomic store orders them before the new tail. */
  publish(): void {
    Atomics.store(this.#control, this.#tail, this.#next);
  }

  /** True when an entry that still waits for submission works on this descriptor. */
  hasPendingOn(fd: number): boolean {
    for (let i = (this.#next - this.pending) | 0; i !== this.#next; i = (i + 1) | 0) {
      if (this.#words[(i & this.#mask) * SQE_WORDS + FD] === fd) return true;
    }
    return false;
  }

  /** Accepts one socket, which arrives as SOCK_NONBLOCK | SOCK_CLOEXEC. */
  accept(fd: number, userData: number): void {
    const at = this.#entry(IORING_OP_ACCEPT, fd, userData);
    this.#words[at + op_flags] = SOCK_NONBLOCK | SOCK_CLOEXEC;
  }

  /** Receives into a buffer of the group; with `pollFirst` it takes one only once there is something to read. */
  recv(fd: number, group: number, pollFirst: boolean, userData: number): void {
    const ioprio = pollFirst ? IORING_RECVSEND_POLL_FIRST << SQE_IOPRIO_SHIFT : 0;
    const op = IORING_OP_RECV | (IOSQE_BUFFER_SELECT << SQE_FLAGS_SHIFT) | ioprio;
    this.#words[this.#entry(op, fd, userData) + buf_group] = group;
  }

  /**
   * Sends all bytes: with MSG_WAITALL the kernel itself continues a short send on a stream (Linux 5.19). With `more`
   * the last segment waits for what follows.
   */
  send(fd: number, address: number, length: number, userData: number, more = false): void {
    const at = this.#entry(IORING_OP_SEND, fd, userData);
    this.#words[at + addr] = address | 0;
    this.#words[at + addr + 1] = (address / 2 ** 32) | 0;
    this.#words[at + len] = length;
    this.#words[at + op_flags] = MSG_WAITALL | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
  }

  /** Connects; copies the socket address, of at most 128 bytes. */
  connect(fd: number, sockaddr: number, length: number, userData: number): void {
    const copy = this.#sockaddrs.address + (this.#next & this.#mask) * SOCKADDR_ROOM;
    libc.memcpyAt(copy, sockaddr, length);
    const at = this.#entry(IORING_OP_CONNECT, fd, userData);
    this.#words[at + addr] = copy | 0;
    this.#words[at + addr + 1] = (copy / 2 ** 32) | 0;
    this.#words[at + off] = length;
  }

  /** Sets a socket option (Linux 6.7). The value must stay where it is until the entry is done. */
  setsockopt(
    fd: number,
    level: number,
    name: number,
    address: number,
    length: number,
    userData: number,
  ): void {
    const at = this.#entry(IORING_OP_URING_CMD, fd, userData);
    this.#words[at + cmd_op] = SOCKET_URING_OP_SETSOCKOPT;
    this.#words[at + LEVEL] = level;
    this.#words[at + optname] = name;
    this.#words[at + optlen] = length;
    this.#words[at + optval] = address | 0;
    this.#words[at + optval + 1] = (address / 2 ** 32) | 0;
  }

  /** Binds to the socket address at `sockaddr` (Linux 6.11), which is read when the entry is submitted. */
  bind(fd: number, sockaddr: number, length: number, userData: number): void {
    const at = this.#entry(IORING_OP_BIND, fd, userData);
    this.#words[at + addr] = sockaddr | 0;
    this.#words[at + addr + 1] = (sockaddr / 2 ** 32) | 0;
    this.#words[at + off] = length;
  }

  /**
   * Makes the entry after the one queued last wait for it, and not run when it fails: ECANCELED then. The one
   * queued last completes visibly only when it fails (or always, before Linux 5.17).
   */
  linkLast(): void {
    const at = ((this.#next - 1) & this.#mask) * SQE_WORDS;
    this.#words[at + opcode]! |= (IOSQE_IO_LINK << SQE_FLAGS_SHIFT) | this.#skipSuccess;
  }

  /** Completes once when the descriptor is readable. */
  pollReadable(fd: number, userData: number): void {
    this.#words[this.#entry(IORING_OP_POLL_ADD, fd, userData) + op_flags] = POLLIN;
  }

  /** Cancels the request queued with `target` as its user data. Unwatched. */
  cancel(target: number): void {
    this.#words[this.#entry(IORING_OP_ASYNC_CANCEL | this.#skipSuccess, -1, UNWATCHED) + addr] = target;
  }

  /** Cancels the requests that match `cancelFlags` (IORING_ASYNC_CANCEL_*). Unwatched. */
  cancelMatching(cancelFlags: number): void {
    const at = this.#entry(IORING_OP_ASYNC_CANCEL | this.#skipSuccess, -1, UNWATCHED);
    this.#words[at + op_flags] = cancelFlags;
  }

  /** Closes a descriptor. Unwatched. */
  close(fd: number): void {
    this.#entry(IORING_OP_CLOSE | this.#skipSuccess, fd, UNWATCHED);
  }

  /** Frees what is not mapped from the ring. */
  free(): void {
    this.#sockaddrs.close();
  }

  /** Starts an entry with everything else zero, as the kernel demands of fields it does not know. */
  #entry(op: number, fd: number, userData: number): number {
    if (this.isFull) throw new Error("submission queue overrun: make room before queueing");
    const at = (this.#next & this.#mask) * SQE_WORDS;
    const words = this.#words;
    for (let i = at; i < at + SQE_WORDS; i++) words[i] = 0;
    words[at + opcode] = op;
    words[at + FD] = fd;
    words[at + user_data] = userData;
    this.#next = (this.#next + 1) | 0;
    return at;
  }
}
