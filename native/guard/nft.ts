/**
 * Runs nft commands: through libnftables when it is there (0.1 ms a run), else through the nft program (3 ms).
 * The syntax is nft(8); one run is one transaction.
 *
 * libnftables waits with select(2), and glibc ends a process that selects on a descriptor of 1024 or more. A proxy with
 * 500 sessions has such descriptors: there the program runs, whose own are few.
 */
import { spawnSync } from "node:child_process";
import { NETLINK_NETFILTER } from "../abi/rtnetlink.ts";
import { AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW } from "../abi/socket.ts";
import { check, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { newNftContext } from "../libnftables.ts";
import { GuardError } from "./guard-error.ts";

/** Where to look for the two; the tests leave one out. */
export interface NftPlaces {
  readonly library: string;
  readonly program: string;
}

const PLACES: NftPlaces = { library: "libnftables.so.1", program: "nft" };

// What the program finds its libraries and prints its errors with; sbin is not on every user's path.
const PROGRAM_ENVIRONMENT = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };
const PROGRAM_OUTPUT_BYTES_MAX = 256 * 1024 * 1024;

/** FD_SETSIZE of glibc, less what other threads may open before libnftables has its socket. */
const LIBRARY_DESCRIPTOR_MAX = 1_024 - 256;

/** Why the kernel refused, of what a caller can react to; "other" is for people. */
export type NftReason = "EBUSY" | "EEXIST" | "ENOENT" | "other";

export type NftResult =
  | { readonly ok: true; readonly output: string }
  | { readonly ok: false; readonly reason: NftReason; readonly error: GuardError };

/** Who runs nft commands, in the network namespace of the thread that opened it. */
export interface Nft extends Disposable {
  /** All of the commands take effect, or none. Never throws. */
  run(commands: string): NftResult;
  close(): void;
}

/**
 * Throws GuardError ACCEL_GUARD_MISSING without libnftables and nft, ACCEL_GUARD_FAILED when the kernel has no
 * netfilter netlink or a security module refuses it.
 */
export function openNft(places: Partial<NftPlaces> = {}): Nft {
  const { library, program } = { ...PLACES, ...places };
  const ctx = probeNetlink() > LIBRARY_DESCRIPTOR_MAX ? undefined : newNftContext(library);
  if (ctx !== undefined) {
    const run = (commands: string): NftResult =>
      ctx.run(commands) === 0 ? { ok: true, output: ctx.output() } : refusal(ctx.error());
    return { run, close: ctx.free, [Symbol.dispose]: ctx.free };
  }
  if (spawnProgram(program, "").missing) {
    throw new GuardError(
      "ACCEL_GUARD_MISSING",
      "frozen connections are guarded by nftables, and neither libnftables.so.1 nor the nft program is here, or only the former and too many descriptors are open for it (apt-get install nftables)",
    );
  }
  const close = (): void => {};
  return { run: (commands) => spawnProgram(program, commands).result, close, [Symbol.dispose]: close };
}

/** libnftables ends the process when it cannot have this socket. Returns the number it got. */
function probeNetlink(): number {
  try {
    const number = libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    new Fd(check(number, "socket", { family: "AF_NETLINK", protocol: "NETLINK_NETFILTER" })).close();
    return number;
  } catch (cause) {
    if (!(cause instanceof SyscallError)) throw cause;
    throw new GuardError(
      "ACCEL_GUARD_FAILED",
      `no netlink socket for nftables: ${cause.code} (use a kernel with nf_tables, and allow AF_NETLINK in the seccomp profile)`,
      { cause },
    );
  }
}

function spawnProgram(program: string, input: string): { missing: boolean; result: NftResult } {
  const { error, status, stdout, stderr } = spawnSync(program, ["-f", "-"], {
    input,
    encoding: "utf8",
    env: PROGRAM_ENVIRONMENT,
    maxBuffer: PROGRAM_OUTPUT_BYTES_MAX,
  });
  if (error !== undefined) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return { missing: isMissing, result: refusal(error.message) };
  }
  return { missing: false, result: status === 0 ? { ok: true, output: stdout } : refusal(stderr) };
}

/** What strerror(3) says, as the first line of an error of nft ends with it. */
const REASONS = [
  [/Device or resource busy/, "EBUSY"],
  [/File exists/, "EEXIST"],
  [/No such file or directory/, "ENOENT"],
] as const;

function refusal(text: string): NftResult {
  const line = text.split("\n", 1)[0]!.trim();
  const reason = REASONS.find(([pattern]) => pattern.test(line))?.[1] ?? "other";
  const error = line.includes("Operation not permitted")
    ? new GuardError(
        "ACCEL_GUARD_DENIED",
        "nftables may not be changed by this user (grant CAP_NET_ADMIN: run as root, or setcap cap_net_admin+ep on node)",
      )
    : new GuardError(
        "ACCEL_GUARD_FAILED",
        `nftables: ${line === "" ? "no reason given" : line} (see accelproxy doctor)`,
      );
  return { ok: false, reason, error };
}
