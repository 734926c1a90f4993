import { EINVAL } from "../abi/errno.ts";
import * as abi from "../abi/io_uring.ts";
import { lastErrno } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { explainRefusal, RingUnavailableError, readIoUringDisabled } from "./unavailable.ts";

/**
 * Everything that differs between kernels, and whether the driver can do without. A set-up flag the kernel
 * does not know makes io_uring_setup() fail with EINVAL; features are reported by it; operations are asked
 * for with IORING_REGISTER_PROBE. Versions are those of Linux.
 */
export const RING_FEATURES = {
  IORING_SETUP_CQSIZE: { kind: "flag", value: abi.IORING_SETUP_CQSIZE, since: "5.5", required: false },
  IORING_SETUP_SUBMIT_ALL: {
    kind: "flag",
    value: abi.IORING_SETUP_SUBMIT_ALL,
    since: "5.18",
    required: false,
  },
  IORING_SETUP_COOP_TASKRUN: {
    kind: "flag",
    value: abi.IORING_SETUP_COOP_TASKRUN,
    since: "5.19",
    required: false,
  },
  IORING_SETUP_SINGLE_ISSUER: {
    kind: "flag",
    value: abi.IORING_SETUP_SINGLE_ISSUER,
    since: "6.0",
    required: false,
  },
  IORING_SETUP_DEFER_TASKRUN: {
    kind: "flag",
    value: abi.IORING_SETUP_DEFER_TASKRUN,
    since: "6.1",
    required: false,
  },
  IORING_SETUP_NO_SQARRAY: {
    kind: "flag",
    value: abi.IORING_SETUP_NO_SQARRAY,
    since: "6.6",
    required: false,
  },
  IORING_FEAT_SINGLE_MMAP: {
    kind: "feature",
    value: abi.IORING_FEAT_SINGLE_MMAP,
    since: "5.4",
    required: true,
  },
  IORING_FEAT_NODROP: { kind: "feature", value: abi.IORING_FEAT_NODROP, since: "5.5", required: true },
  IORING_FEAT_SUBMIT_STABLE: {
    kind: "feature",
    value: abi.IORING_FEAT_SUBMIT_STABLE,
    since: "5.5",
    required: true,
  },
  IORING_FEAT_FAST_POLL: { kind: "feature", value: abi.IORING_FEAT_FAST_POLL, since: "5.7", required: true },
  IORING_FEAT_EXT_ARG: { kind: "feature", value: abi.IORING_FEAT_EXT_ARG, since: "5.11", required: true },
  IORING_FEAT_CQE_SKIP: { kind: "feature", value: abi.IORING_FEAT_CQE_SKIP, since: "5.17", required: false },
  IORING_OP_POLL_ADD: { kind: "operation", value: abi.IORING_OP_POLL_ADD, since: "5.1", required: true },
  IORING_OP_ACCEPT: { kind: "operation", value: abi.IORING_OP_ACCEPT, since: "5.5", required: true },
  IORING_OP_ASYNC_CANCEL: {
    kind: "operation",
    value: abi.IORING_OP_ASYNC_CANCEL,
    since: "5.5",
    required: true,
  },
  IORING_OP_CONNECT: { kind: "operation", value: abi.IORING_OP_CONNECT, since: "5.5", required: true },
  IORING_OP_CLOSE: { kind: "operation", value: abi.IORING_OP_CLOSE, since: "5.6", required: true },
  IORING_OP_SEND: { kind: "operation", value: abi.IORING_OP_SEND, since: "5.6", required: true },
  IORING_OP_RECV: { kind: "operation", value: abi.IORING_OP_RECV, since: "5.6", required: true },
  IORING_REGISTER_PBUF_RING: {
    kind: "register",
    value: abi.IORING_REGISTER_PBUF_RING,
    since: "5.19",
    required: true,
  },
} as const satisfies Record<
  string,
  { kind: "flag" | "feature" | "operation" | "register"; value: number; since: string; required: boolean }
>;

export type RingFeature = keyof typeof RING_FEATURES;

export const RING_FEATURE_NAMES = Object.keys(RING_FEATURES) as RingFeature[];

/** A feature with the kernel that brought it, for messages. */
function describeFeature(feature: RingFeature): string {
  return `${feature} (Linux ${RING_FEATURES[feature].since})`;
}

/** A ring as io_uring_setup() made it: the descriptor, owned by the caller, and what the kernel said. */
export interface RingSetup {
  readonly fd: Fd;
  /** struct io_uring_params. */
  readonly params: DataView;
  /** The IORING_SETUP_* bits in force. */
  readonly flags: number;
}

/**
 * Makes a ring of `entries` submissions and `completions` completions (rounded up to powers of two by the
 * kernel) with every set-up flag that the kernel has and `without` does not name. Throws
 * RingUnavailableError, or RangeError for impossible sizes.
 */
export function setupRing(
  entries: number,
  completions: number,
  without: ReadonlySet<RingFeature>,
): RingSetup {
  if (!(Number.isInteger(entries) && entries > 0 && entries <= abi.IORING_MAX_ENTRIES)) {
    throw new RangeError(`ring of ${entries} entries: 1 to ${abi.IORING_MAX_ENTRIES} are possible`);
  }
  const first = trySetup(
    entries,
    completions,
    chooseFlags((flag) => !without.has(flag)),
  );
  if (typeof first !== "number") return first;
  if (first !== EINVAL) throw explainRefusal("io_uring_setup", first, readIoUringDisabled());
  // A flag was refused, and EINVAL does not say which: ask for each alone.
  const flags = chooseFlags((flag) => !without.has(flag) && acceptsFlag(flag));
  const second = trySetup(entries, completions, flags);
  if (typeof second !== "number") return second;
  throw explainRefusal("io_uring_setup", second, readIoUringDisabled());
}

/** True when a ring with this set-up flag (and the one it depends on) can be made here. */
export function acceptsFlag(flag: RingFeature): boolean {
  const value: number = RING_FEATURES[flag].value;
  const needs = value === abi.IORING_SETUP_DEFER_TASKRUN ? abi.IORING_SETUP_SINGLE_ISSUER : 0;
  const ring = trySetup(1, 2, value | needs);
  if (typeof ring === "number") return false;
  ring.fd.close();
  return true;
}

/**
 * Which features this ring has, less those in `without`. Whether provided-buffer rings exist shows only when
 * one is registered: IORING_REGISTER_PBUF_RING is in the set until BufferRing finds out.
 */
export function supportedFeatures(setup: RingSetup, without: ReadonlySet<RingFeature>): Set<RingFeature> {
  const features = setup.params.getUint32(abi.io_uring_params.features, true);
  const operations = probeOperations(setup.fd);
  const isThere = (name: RingFeature): boolean => {
    const { kind, value } = RING_FEATURES[name];
    switch (kind) {
      case "flag":
        return (setup.flags & value) !== 0;
      case "feature":
        return (features & value) !== 0;
      case "operation":
        return operations.has(value);
      case "register":
        return true;
    }
  };
  return new Set(RING_FEATURE_NAMES.filter((name) => !without.has(name) && isThere(name)));
}

/** Throws RingUnavailableError naming every required feature that is not in the set. */
export function requireFeatures(supported: ReadonlySet<RingFeature>): void {
  const missing = RING_FEATURE_NAMES.filter((name) => RING_FEATURES[name].required && !supported.has(name));
  if (missing.length > 0) throw missingFeatures(missing);
}

/** The error for features the driver cannot do without. */
export function missingFeatures(missing: readonly RingFeature[]): RingUnavailableError {
  const remedy = "use a newer kernel or the epoll driver";
  return new RingUnavailableError("missing-feature", missing.map(describeFeature), remedy);
}

/** DEFER_TASKRUN is refused without SINGLE_ISSUER; COOP_TASKRUN is the next best thing to it. */
function chooseFlags(has: (flag: RingFeature) => boolean): number {
  let flags = 0;
  for (const name of RING_FEATURE_NAMES) {
    const { kind, value } = RING_FEATURES[name];
    if (kind === "flag" && has(name)) flags |= value;
  }
  if ((flags & abi.IORING_SETUP_SINGLE_ISSUER) === 0) flags &= ~abi.IORING_SETUP_DEFER_TASKRUN;
  if ((flags & abi.IORING_SETUP_DEFER_TASKRUN) !== 0) flags &= ~abi.IORING_SETUP_COOP_TASKRUN;
  return flags;
}

/** io_uring_setup(2): the ring, or the error number. */
function trySetup(entries: number, completions: number, flags: number): RingSetup | number {
  const memory = Memory.anonymous(abi.IO_URING_PARAMS_SIZE);
  try {
    memory.view.setUint32(abi.io_uring_params.flags, flags, true);
    if ((flags & abi.IORING_SETUP_CQSIZE) !== 0) {
      memory.view.setUint32(abi.io_uring_params.cq_entries, completions, true);
    }
    const fd = libc.syscall6(abi.SYS_io_uring_setup, entries, memory.address, 0, 0, 0, 0);
    if (fd < 0) return lastErrno();
    return { fd: new Fd(fd), params: new DataView(memory.buffer.slice(0)), flags };
  } finally {
    memory.close();
  }
}

/** The operations the kernel knows (Linux 5.6; none when it cannot say). */
function probeOperations(fd: Fd): Set<number> {
  const count = 256;
  const memory = Memory.anonymous(abi.IO_URING_PROBE_SIZE + count * abi.IO_URING_PROBE_OP_SIZE);
  const known = new Set<number>();
  const { address, view } = memory;
  libc.syscall6(abi.SYS_io_uring_register, fd.number, abi.IORING_REGISTER_PROBE, address, count, 0, 0);
  // A failed call leaves the memory zero: no operations.
  for (let i = 0; i < view.getUint8(abi.io_uring_probe.ops_len); i++) {
    const at = abi.IO_URING_PROBE_SIZE + i * abi.IO_URING_PROBE_OP_SIZE;
    if ((view.getUint16(at + abi.io_uring_probe_op.flags, true) & abi.IO_URING_OP_SUPPORTED) !== 0) {
      known.add(view.getUint8(at + abi.io_uring_probe_op.op));
    }
  }
  memory.close();
  return known;
}
