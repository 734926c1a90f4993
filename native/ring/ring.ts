import { EAGAIN, EBUSY, EINTR, ETIME } from "../abi/errno.ts";
import {
  __KERNEL_TIMESPEC_SIZE,
  IO_URING_CQE_SIZE,
  IO_URING_GETEVENTS_ARG_SIZE,
  IO_URING_SQE_SIZE,
  IORING_ENTER_EXT_ARG,
  IORING_ENTER_GETEVENTS,
  IORING_MAX_CQ_ENTRIES,
  IORING_OFF_SQ_RING,
  IORING_OFF_SQES,
  IORING_SETUP_NO_SQARRAY,
  io_cqring_offsets,
  io_sqring_offsets,
  io_uring_getevents_arg,
  io_uring_params,
  SYS_io_uring_enter,
} from "../abi/io_uring.ts";
import { lastErrno, SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { CompletionQueue } from "./completion.ts";
import { type RingFeature, type RingSetup, requireFeatures, setupRing, supportedFeatures } from "./setup.ts";
import { SubmissionQueue } from "./submission.ts";
import { explainRefusal, readIoUringDisabled } from "./unavailable.ts";

export interface RingOptions {
  /** Room for submissions, 1 .. 32768; rounded up to a power of two. More may be queued: flush() makes room. */
  readonly entries: number;
  /** Features to leave unused as if the kernel lacked them: how tests meet older kernels. */
  readonly without?: readonly RingFeature[];
}

/** How a wait ended. */
export type EnterOutcome = "done" | "timeout" | "interrupted";

/** Completions per submission. A session in progress has one or two requests in the kernel, most of them idle. */
const COMPLETIONS_PER_ENTRY = 8;

/** While the kernel has no memory for requests: the wait between tries, and their number before giving up. */
const REFUSED_WAIT_MS = 1;
const REFUSED_TRIES_MAX = 1000;

const TIMESPEC_AT = IO_URING_GETEVENTS_ARG_SIZE;

/**
 * One io_uring, for the thread that made it (SINGLE_ISSUER), with its queues mapped.
 * Read io_uring(7) and io_uring_enter(2) first.
 */
export class Ring {
  readonly submissions: SubmissionQueue;
  readonly completions: CompletionQueue;
  /** What the ring works with; required features are always among them. */
  readonly features: ReadonlySet<RingFeature>;
  readonly #setup: RingSetup;
  readonly #mapped: Memory;
  readonly #sqes: Memory;
  readonly #argument = Memory.anonymous(IO_URING_GETEVENTS_ARG_SIZE + __KERNEL_TIMESPEC_SIZE);
  readonly #timespec = new Int32Array(this.#argument.buffer, TIMESPEC_AT, __KERNEL_TIMESPEC_SIZE >> 2);
  readonly #fd: number;

  /** Throws RingUnavailableError when the kernel refuses or lacks a required feature, RangeError for sizes. */
  constructor(options: RingOptions) {
    const without = new Set(options.without);
    const completions = Math.min(options.entries * COMPLETIONS_PER_ENTRY, IORING_MAX_CQ_ENTRIES);
    const setup = setupRing(options.entries, completions, without);
    try {
      this.features = supportedFeatures(setup, without);
      requireFeatures(this.features);
      const at = (field: number) => setup.params.getUint32(field, true);
      const { sq_off, cq_off, sq_entries, cq_entries } = io_uring_params;
      const arrayEnd = at(sq_off + io_sqring_offsets.array) + at(sq_entries) * 4;
      const cqesEnd = at(cq_off + io_cqring_offsets.cqes) + at(cq_entries) * IO_URING_CQE_SIZE;
      this.#mapped = Memory.shared(setup.fd.number, Math.max(arrayEnd, cqesEnd), IORING_OFF_SQ_RING);
      this.#sqes = Memory.shared(setup.fd.number, at(sq_entries) * IO_URING_SQE_SIZE, IORING_OFF_SQES);
    } catch (error) {
      setup.fd.close();
      if (error instanceof SyscallError) {
        throw explainRefusal(error.syscall, error.errno, readIoUringDisabled());
      }
      throw error;
    }
    const hasArray = (setup.flags & IORING_SETUP_NO_SQARRAY) === 0;
    const hasCqeSkip = this.features.has("IORING_FEAT_CQE_SKIP");
    this.submissions = new SubmissionQueue(this.#mapped, this.#sqes, setup.params, hasArray, hasCqeSkip);
    this.completions = new CompletionQueue(this.#mapped, setup.params);
    this.#setup = setup;
    this.#fd = setup.fd.number;
    const timespec = BigInt(this.#argument.address + TIMESPEC_AT);
    this.#argument.view.setBigUint64(io_uring_getevents_arg.ts, timespec, true);
  }

  /** The descriptor of the ring, for io_uring_register(). Stays the ring's. */
  get fd(): number {
    return this.#setup.fd.number;
  }

  /**
   * Submits everything queued and waits until a completion can be read, at most `timeoutMs` (Infinity: for
   * ever; 0 or less: no wait). One system call, unless the kernel takes the queue in pieces: without
   * IORING_SETUP_SUBMIT_ALL it stops at an entry it rejects, and then does not wait either.
   * When it is out of memory for requests (EAGAIN) or must see completions first (EBUSY), part of the queue
   * stays for the next call and the wait is at most 1 ms. Throws SyscallError on anything unexpected, such as
   * EBADR, a completion lost for want of memory.
   */
  enter(timeoutMs: number): EnterOutcome {
    this.completions.publish();
    this.submissions.publish();
    let wait = timeoutMs;
    for (;;) {
      const { pending } = this.submissions;
      const errno = this.#enter(pending, wait > 0 ? 1 : 0, wait);
      const left = this.submissions.pending;
      switch (errno) {
        case 0:
          if (left === 0 || pending === 0) return "done";
          continue;
        case ETIME:
          return "timeout";
        case EINTR:
          return "interrupted";
        case EAGAIN:
        case EBUSY:
          if (pending === 0) return "interrupted";
          wait = Math.min(wait, REFUSED_WAIT_MS);
          this.#enter(0, wait > 0 ? 1 : 0, wait);
          return "interrupted";
        default:
          throw new SyscallError("io_uring_enter", errno, { pending, timeoutMs });
      }
    }
  }

  /**
   * Submits everything queued without waiting, to make room. Completions it causes are read later; when the
   * kernel insists on handing some over first they are stashed. Throws SyscallError EAGAIN or EBUSY when a
   * second of trying did not help.
   */
  flush(): void {
    this.completions.publish();
    this.submissions.publish();
    let refused = 0;
    for (let { pending } = this.submissions; pending > 0; { pending } = this.submissions) {
      const errno = this.#submit(pending);
      if (errno === 0 || errno === EINTR) continue;
      if ((errno !== EAGAIN && errno !== EBUSY) || ++refused > REFUSED_TRIES_MAX) {
        throw new SyscallError("io_uring_enter", errno, { pending, refused });
      }
      this.completions.stash();
      this.#enter(0, 1, REFUSED_WAIT_MS);
    }
  }

  /** Makes room for one more entry. */
  reserve(): SubmissionQueue {
    if (this.submissions.isFull) this.flush();
    return this.submissions;
  }

  /**
   * Closes the ring and unmaps it. Requests must be over: the kernel goes on with the rest in the background,
   * after the memory they point to is gone.
   */
  close(): void {
    this.#setup.fd.close();
    this.submissions.free();
    this.#mapped.close();
    this.#sqes.close();
    this.#argument.close();
  }

  #submit(count: number): number {
    return libc.syscall6(SYS_io_uring_enter, this.#fd, count, 0, 0, 0, 0) < 0 ? lastErrno() : 0;
  }

  /** io_uring_enter() that also collects completions. Returns 0 or the error number. */
  #enter(count: number, atLeast: number, timeoutMs: number): number {
    let flags = IORING_ENTER_GETEVENTS;
    let argument = 0;
    let size = 0;
    if (atLeast > 0 && timeoutMs !== Infinity) {
      const seconds = Math.min(Math.floor(timeoutMs / 1e3), 0x7fff_ffff);
      // Rounded up, so that a wait never ends before its time: the caller would spin on the remainder.
      const nanoseconds = Math.ceil((timeoutMs - seconds * 1e3) * 1e6);
      this.#timespec[0] = seconds;
      this.#timespec[2] = Math.min(nanoseconds, 999_999_999);
      flags |= IORING_ENTER_EXT_ARG;
      argument = this.#argument.address;
      size = IO_URING_GETEVENTS_ARG_SIZE;
    }
    const result = libc.syscall6(SYS_io_uring_enter, this.#fd, count, atLeast, flags, argument, size);
    return result < 0 ? lastErrno() : 0;
  }
}
