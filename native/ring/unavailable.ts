import { readFileSync } from "node:fs";
import { EACCES, EINVAL, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM } from "../abi/errno.ts";
import { errnoCode } from "../errno.ts";

/** Why there is no ring, for programs. */
export type RingUnavailableReason =
  | "disabled" // the sysctl kernel.io_uring_disabled
  | "denied" // EPERM or EACCES from elsewhere: seccomp, an LSM
  | "unsupported" // no such system call
  | "memory" // ENOMEM, most often RLIMIT_MEMLOCK
  | "descriptors" // EMFILE, ENFILE
  | "missing-feature" // the kernel has io_uring, but not all we need
  | "failed"; // anything else

/** io_uring cannot be used here. The message says what is missing and what to do about it. */
export class RingUnavailableError extends Error {
  override readonly name = "RingUnavailableError";
  readonly code = "ACCEL_RING_UNAVAILABLE";
  readonly reason: RingUnavailableReason;
  /** Each missing thing, e.g. "IORING_OP_RECV (Linux 5.6)". */
  readonly missing: readonly string[];
  readonly remedy: string;

  constructor(reason: RingUnavailableReason, missing: readonly string[], remedy: string) {
    super(`io_uring is unavailable: ${missing.join(", ")} (${remedy})`);
    this.reason = reason;
    this.missing = missing;
    this.remedy = remedy;
  }
}

/** The value of kernel.io_uring_disabled, 0 where the kernel has no such sysctl (before Linux 6.6). */
export function readIoUringDisabled(): number {
  try {
    return Number(readFileSync("/proc/sys/kernel/io_uring_disabled", "latin1"));
  } catch {
    return 0;
  }
}

/** The soft RLIMIT_MEMLOCK as /proc prints it, in bytes or "unlimited". */
function readMemlockLimit(): string {
  try {
    const line = readFileSync("/proc/self/limits", "latin1").match(/^Max locked memory\s+(\S+)/m);
    return line?.[1] ?? "unknown";
  } catch {
    return "unknown";
  }
}

/**
 * The error for a failed io_uring system call. `disabled` is kernel.io_uring_disabled: 1 leaves io_uring to
 * CAP_SYS_ADMIN and the group in kernel.io_uring_group, 2 to nobody; both give EPERM, and so does seccomp.
 */
export function explainRefusal(syscall: string, errno: number, disabled: number): RingUnavailableError {
  const failure = `${syscall} gives ${errnoCode(errno)}`;
  switch (errno) {
    case EPERM:
    case EACCES:
      if (disabled !== 0) {
        return new RingUnavailableError(
          "disabled",
          [`${failure} with kernel.io_uring_disabled = ${disabled}`],
          "sysctl kernel.io_uring_disabled=0, or use the epoll driver",
        );
      }
      return new RingUnavailableError(
        "denied",
        [`${failure}, though kernel.io_uring_disabled = 0`],
        "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile or security module of the container or service, or use the epoll driver",
      );
    case ENOSYS:
      return new RingUnavailableError(
        "unsupported",
        [failure],
        "the kernel was built without CONFIG_IO_URING, or a seccomp profile hides it; use the epoll driver",
      );
    case ENOMEM:
      return new RingUnavailableError(
        "memory",
        [`${failure} with RLIMIT_MEMLOCK = ${readMemlockLimit()} bytes`],
        "raise it (LimitMEMLOCK=infinity, ulimit -l unlimited) or the memory limit of the cgroup, or use smaller rings",
      );
    case EMFILE:
    case ENFILE:
      return new RingUnavailableError("descriptors", [failure], "raise RLIMIT_NOFILE or fs.file-max");
    case EINVAL:
      return new RingUnavailableError("missing-feature", [failure], "Linux 5.19 or newer is needed");
    default:
      return new RingUnavailableError("failed", [failure], "use the epoll driver");
  }
}
