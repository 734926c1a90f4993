/**
 * A program begun anew in this very process, as another user: the process keeps its number, its parent and the
 * descriptors it is told to, and loses every right but a few capabilities. Capabilities belong to threads, so that no
 * thread can drop those of the others; execve(2) ends them all, and what the calling thread has is all there is.
 * Read capabilities(7), "Transformation of capabilities during execve()", first.
 */
import * as abi from "./abi/capability.ts";
import { F_SETFD } from "./abi/fcntl.ts";
import * as pr from "./abi/prctl.ts";
import type { Account } from "./account.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

export interface Beginning {
  readonly account: Account;
  /** By number; those of them that this thread has are ambient afterwards, and there are no others. */
  readonly capabilities: readonly number[];
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Descriptors that stay open under their numbers, besides the standard ones. */
  readonly keep: readonly number[];
}

/**
 * Does it, from the main thread. Throws SyscallError: EPERM without CAP_SETUID and CAP_SETGID, EINVAL for a user that
 * the user namespace does not know, or whatever execve(2) says; the process must end then, since it may have lost
 * rights already.
 */
export function beginAs({ account, capabilities, program, args, env, keep }: Beginning): never {
  const kept = capabilities.filter((capability) => (permitted() & (1n << BigInt(capability))) !== 0n);
  narrowBoundingSet(kept);
  prctl("PR_SET_KEEPCAPS", pr.PR_SET_KEEPCAPS, 1);
  const { name, uid, gid } = account;
  check(libc.initgroups(name, gid), "initgroups", { name });
  check(libc.setresgid(gid, gid, gid), "setresgid", { gid });
  check(libc.setresuid(uid, uid, uid), "setresuid", { uid });
  setCapabilities(kept);
  for (const capability of kept) {
    prctl("PR_CAP_AMBIENT_RAISE", pr.PR_CAP_AMBIENT, pr.PR_CAP_AMBIENT_RAISE, capability);
  }
  prctl("PR_SET_NO_NEW_PRIVS", pr.PR_SET_NO_NEW_PRIVS, 1);
  // Node makes its standard descriptors close-on-exec, as all it was given.
  for (const fd of [0, 1, 2, ...keep]) check(libc.fcntl(fd, F_SETFD, 0), "fcntl", { fd });
  const variables = Object.entries(env).flatMap(([key, value]) =>
    value === undefined ? [] : `${key}=${value}`,
  );
  check(libc.execve(program, [program, ...args, null], [...variables, null]), "execve", { program });
  throw new Error("execve returned");
}

/** Nothing that is executed later gets any other. Without CAP_SETPCAP it stays as it is: no_new_privs does the same. */
function narrowBoundingSet(kept: readonly number[]): void {
  for (let capability = 0; capability < abi.CAPABILITIES_MAX; capability++) {
    if (kept.includes(capability)) continue;
    if (libc.prctl(pr.PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return;
  }
}

/** What the calling thread may have. */
function permitted(): bigint {
  const memory = capabilityMemory();
  const dataAt = memory.address + abi.CAPABILITY_HEADER_SIZE;
  check(libc.capget(memory.address, dataAt), "capget", {});
  const at = abi.CAPABILITY_HEADER_SIZE + 4;
  const set = BigInt(memory.view.getUint32(at, true)) | (BigInt(memory.view.getUint32(at + 12, true)) << 32n);
  memory.close();
  return set;
}

/** Effective, permitted and inheritable alike. */
function setCapabilities(kept: readonly number[]): void {
  const memory = capabilityMemory();
  for (const capability of kept) {
    const first = abi.CAPABILITY_HEADER_SIZE + (capability < 32 ? 0 : 12);
    for (const at of [first, first + 4, first + 8]) {
      memory.view.setUint32(at, (memory.view.getUint32(at, true) | (1 << (capability % 32))) >>> 0, true);
    }
  }
  check(libc.capset(memory.address, memory.address + abi.CAPABILITY_HEADER_SIZE), "capset", { kept });
  memory.close();
}

function capabilityMemory(): Memory {
  const memory = Memory.anonymous(abi.CAPABILITY_HEADER_SIZE + abi.CAPABILITY_DATA_SIZE);
  memory.view.setUint32(0, abi._LINUX_CAPABILITY_VERSION_3, true);
  return memory;
}

function prctl(name: string, option: number, a: number, b = 0): void {
  check(libc.prctl(option, a, b, 0, 0), "prctl", { option: name });
}
