import { readFileSync } from "node:fs";
import { SyscallError } from "../native/errno.ts";
import { HandshakeReceiver } from "../native/net/handshake-receiver.ts";
import { RawSender } from "../native/net/raw-sender.ts";
import { probeRoute, reservePort } from "../native/net/tcp-socket.ts";

/**
 * What acceleration needs and this process may not do. Decided by trying: a capability in the effective set is
 * worth nothing when the network namespace belongs to another user namespace, or a seccomp profile or a security
 * module says no.
 */

export interface MissingPrivilege {
  /** CAP_NET_RAW, CAP_NET_ADMIN, or the system call that is refused in spite of both. */
  readonly capability: string;
  /** What was seen, e.g. "socket: EPERM, not in the effective set". */
  readonly found: string;
  /** How to grant it, one line. */
  readonly remedy: string;
}

export interface Privileges {
  readonly ok: boolean;
  readonly missing: readonly MissingPrivilege[];
}

export type Capability = "CAP_NET_ADMIN" | "CAP_NET_RAW";

// From include/uapi/linux/capability.h.
const CAPABILITY_BIT: Readonly<Record<Capability, bigint>> = { CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n };

/** How to grant both capabilities, one line that fits in a message. */
export const GRANT =
  'run as root; or setcap cap_net_admin,cap_net_raw+ep "$(readlink -f "$(command -v node)")"; or in a systemd ' +
  "unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW; or docker run --cap-add NET_ADMIN --cap-add NET_RAW";

const LOOPBACK = Uint8Array.of(127, 0, 0, 1);
const ANY_PORT = 9;

/**
 * Tries a raw socket, TCP_REPAIR, and a filter on a listener and on a raw socket; sends nothing and leaves
 * nothing behind. Never throws for a refusal: each becomes an entry of `missing`.
 */
export function checkPrivileges(): Privileges {
  const missing: MissingPrivilege[] = [];
  for (const capability of ["CAP_NET_RAW", "CAP_NET_ADMIN"] as const) {
    const refusal = tryCapability(capability);
    if (refusal !== undefined) missing.push(lackOf(capability, refusal));
  }
  if (missing.length === 0) {
    const refusal = tryFilter() ?? refusalOf(() => new HandshakeReceiver(4).close());
    if (refusal !== undefined) missing.push(refusedAnyway(refusal));
  }
  return { ok: missing.length === 0, missing };
}

/** The refusal when this process may not do what `capability` is for, undefined when it may. */
export function tryCapability(capability: Capability): SyscallError | undefined {
  return capability === "CAP_NET_RAW"
    ? refusalOf(() => new RawSender(4).close())
    : refusalOf(() => probeRoute(LOOPBACK, ANY_PORT));
}

/**
 * The refusal of SO_ATTACH_FILTER on a TCP listener. It takes CAP_NET_ADMIN on Linux 6.18 (tried; on UDP sockets
 * nothing), while older documentation asks for no capability.
 */
export function tryFilter(): SyscallError | undefined {
  return refusalOf(() => reservePort(false).fd.close());
}

/** The entry for a capability that was tried in vain. */
export function lackOf(capability: Capability, refusal: SyscallError): MissingPrivilege {
  const effective = readEffectiveCapabilities();
  const isHeld = effective !== undefined && (effective & (1n << CAPABILITY_BIT[capability])) !== 0n;
  return {
    capability,
    found: `${describeSyscallError(refusal)}, ${isHeld ? "though in the effective set" : "not in the effective set"}`,
    remedy: isHeld
      ? "it does not count for this network namespace, or a seccomp profile or security module refuses it: start in a namespace of the same user namespace (unshare -rn), or allow it in the profile"
      : GRANT,
  };
}

function refusedAnyway(refusal: SyscallError): MissingPrivilege {
  return {
    capability: typeof refusal.args.option === "string" ? refusal.args.option : refusal.syscall,
    found: describeSyscallError(refusal),
    remedy:
      "start it outside of user namespaces, and allow it in the seccomp profile or security module of the container or service",
  };
}

/** With the option or type in question: `setsockopt TCP_REPAIR: EPERM`. */
export function describeSyscallError({ syscall, code, args }: SyscallError): string {
  const what = args.option ?? args.type;
  return typeof what === "string" ? `${syscall} ${what}: ${code}` : `${syscall}: ${code}`;
}

/** Only EPERM and EACCES speak of privileges; a loopback that is down (ENETUNREACH) does not. */
function refusalOf(attempt: () => void): SyscallError | undefined {
  try {
    attempt();
    return undefined;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return error.code === "EPERM" || error.code === "EACCES" ? error : undefined;
  }
}

function readEffectiveCapabilities(): bigint | undefined {
  try {
    const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
    return mask === undefined ? undefined : BigInt(`0x${mask}`);
  } catch {
    return undefined; // /proc is not mounted
  }
}
