/**
 * freeze, resume and abandon: a connection stops, and goes on.
 *
 *   running ──guard, then repair mode──▶ held ──out of the guard, then of repair mode, then wake──▶ running
 *
 * While the send queue is chosen in repair mode, an ACK that arrived would make the kernel count as sent what it did
 * not send: only the guard permits choosing it, and nothing leaves it chosen. Read net/ipv4/tcp.c
 * do_tcp_setsockopt(), TCP_REPAIR, and net/ipv4/tcp_output.c tcp_write_xmit().
 */
import { EPERM } from "../abi/errno.ts";
import * as so from "../abi/socket.ts";
import * as tcp from "../abi/tcp.ts";
import { SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { setRepair } from "../sockopt.ts";
import { readConnecting } from "./connecting.ts";
import { type Held, stateOf } from "./held.ts";
import type { RepairKit } from "./kit.ts";
import { optionOps, setTcp } from "./ops.ts";
import { RepairError } from "./repair-error.ts";
import { applyOps } from "./restore.ts";
import { readEnd, readInt, readNegotiated, readText } from "./socket-reader.ts";
import { readBearings, wake } from "./wake.ts";

/**
 * Stops connections: from its return on nothing of them comes in or leaves, and their sockets are in repair mode.
 * What the application does with them meanwhile is lost or refused; reading is EPERM. The result has for each
 * descriptor what was frozen, or why it was not: RepairError ACCEL_REPAIR_STATE or ACCEL_REPAIR_UNSUPPORTED, as it
 * was before. The descriptors stay the caller's. Throws GuardError, and RepairError ACCEL_REPAIR_DENIED without
 * CAP_NET_ADMIN, all as before.
 */
export function freeze(kit: RepairKit, fds: readonly number[]): (Held | RepairError)[] {
  const results = fds.map(examine);
  const held = results.filter((result): result is Held => !(result instanceof RepairError));
  kit.guard.add(held);
  try {
    for (const { fd } of held) setRepair(fd, true);
  } catch (error) {
    resume(kit, held);
    throw repairDenied(error);
  }
  return results;
}

function examine(fd: number): Held | RepairError {
  const refuse = (what: string): RepairError =>
    new RepairError("ACCEL_REPAIR_UNSUPPORTED", `descriptor ${fd} ${what}`);
  try {
    const protocol = readInt(fd, so.SOL_SOCKET, so.SO_PROTOCOL);
    if (protocol === so.IPPROTO_MPTCP) return refuse("is MPTCP, which has no repair mode (use TCP)");
    if (protocol !== so.IPPROTO_TCP) return refuse("is not TCP");
    const state = stateOf(readNegotiated(fd).state, { fd });
    const ulp = readText(fd, so.IPPROTO_TCP, tcp.TCP_ULP);
    if (ulp !== "") return refuse(`has the kernel do ${ulp} on it, whose state cannot be read`);
    const { scope, ...local } = readEnd(fd, "local");
    if (scope !== 0) return refuse("is between link-local addresses, which mean nothing elsewhere");
    const { address, port } =
      state === "SYN_SENT" ? readConnecting(fd, local.address.length === 4 ? 4 : 6) : readEnd(fd, "remote");
    const reuse = readInt(fd, so.SOL_SOCKET, so.SO_REUSEADDR);
    return { fd, local, remote: { address, port }, later: [{ name: "SO_REUSEADDR", value: reuse }] };
  } catch (error) {
    if (error instanceof RepairError) return error;
    if (!(error instanceof SyscallError)) throw error;
    return new RepairError("ACCEL_REPAIR_STATE", `descriptor ${fd} is no connection: ${error.code}`, {
      cause: error,
    });
  }
}

/** TCP_REPAIR refused. Source: net/ipv4/tcp.c tcp_can_repair_sock(). */
export function repairDenied(error: unknown): unknown {
  if (!(error instanceof SyscallError && error.errno === EPERM)) return error;
  const message = "repair mode is refused (grant CAP_NET_ADMIN in the network namespace's user namespace)";
  return new RepairError("ACCEL_REPAIR_DENIED", message, { cause: error });
}

/**
 * Lets held connections go on: they leave the guard, then repair mode, what was never sent is sent, and their peers
 * are woken so that they need not wait for timers that have backed off while nobody answered. Whoever knows that they
 * stood still for at most `stoodMs` saves packets. The descriptors stay the caller's. Throws GuardError with all of them still held; SyscallError.
 */
export function resume(kit: RepairKit, held: readonly Held[], stoodMs = Number.POSITIVE_INFINITY): void {
  const bearings = held.map(readBearings);
  kit.guard.remove(held);
  for (const [index, one] of held.entries()) {
    const where = bearings[index];
    // In ESTABLISHED the kernel then sends a segment the peer has had.
    const leave = where?.isSending ? tcp.TCP_REPAIR_OFF : tcp.TCP_REPAIR_OFF_NO_WP;
    applyOps(one.fd, [setTcp(tcp.TCP_REPAIR, leave)]);
    if (where !== undefined) wake(kit, one, where, stoodMs);
    applyOps(one.fd, optionOps(one.later, "repair"));
  }
}

/**
 * Gives a checkpoint up: frozen connections go on where they stood, as if nothing had happened but a pause. The
 * same as resume(), under the name that says of which socket.
 */
export function abandon(kit: RepairKit, frozen: readonly Held[]): void {
  resume(kit, frozen);
}

/**
 * Closes held sockets without a packet: originals whose images are safe, or copies that will not be resumed. They
 * stay in the guard, which alone keeps the kernel from answering their peers. The descriptors are gone.
 */
export function discard(held: readonly Held[]): void {
  for (const { fd } of held) libc.close(fd);
}
