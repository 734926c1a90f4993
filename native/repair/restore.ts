/**
 * Runs a restore plan with plain system calls. One arena per thread holds every argument, so that a
 * restore allocates nothing outside its plan.
 */
import { EAGAIN, EINPROGRESS, ENOBUFS, EPERM } from "../abi/errno.ts";
import { F_GETFL, F_SETFL, O_NONBLOCK } from "../abi/fcntl.ts";
import * as so from "../abi/socket.ts";
import * as tcp from "../abi/tcp.ts";
import { encodeSockaddrInto } from "../address.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import type { TcpPacket } from "../wire/packet.ts";
import { fromHandshake, type IntOption } from "./image.ts";
import type { RepairOp, SocketOp } from "./ops.ts";
import { restorePlan } from "./plan.ts";

const ARENA_SIZE = 4096;

const arena = Memory.anonymous(ARENA_SIZE);
const at = arena.address;

/** Lets a segment arrive at the socket `fd` as if from its peer. */
export type Feed = (fd: number, packet: TcpPacket, payload?: Uint8Array) => void;

/**
 * Executes the operations in order on a new socket and returns its descriptor, which the caller owns.
 * `socketFlags` joins SOCK_CLOEXEC (SOCK_NONBLOCK for an epoll loop, 0 for io_uring); `feed` serves plans that feed.
 * Throws SyscallError naming the failed operation, with the socket closed silently where it is in repair mode:
 * EPERM without CAP_NET_ADMIN, EADDRNOTAVAIL from bind when the local address is gone and from connect when
 * the tuple is connected already (__inet_check_established), EMFILE, ENOBUFS when a queue does not fit.
 */
export function restoreBySyscalls(plan: readonly RepairOp[], socketFlags = 0, feed: Feed = noFeed): number {
  let fd = -1;
  try {
    for (const step of plan) {
      if (step.op === "socket") {
        const family = step.family === 4 ? so.AF_INET : so.AF_INET6;
        fd = check(libc.socket(family, so.SOCK_STREAM | so.SOCK_CLOEXEC | socketFlags, 0), "socket", step);
      } else if (apply(fd, step, feed) < 0) {
        throw new SyscallError(step.op, lastErrno(), step);
      }
    }
  } catch (error) {
    if (fd >= 0) libc.close(fd);
    throw error;
  }
  return fd;
}

/** Executes operations on a socket that exists. Throws as restoreBySyscalls(); the socket stays open. */
export function applyOps(fd: number, ops: readonly SocketOp[]): void {
  for (const step of ops) {
    if (apply(fd, step, noFeed) < 0) throw new SyscallError(step.op, lastErrno(), step);
  }
}

function noFeed(): never {
  throw new Error("this plan feeds, and nothing to feed with was given");
}

function apply(fd: number, step: SocketOp, feed: Feed): number {
  switch (step.op) {
    case "setInt":
      arena.view.setInt32(0, step.value | 0, true);
      if (libc.setsockoptAt(fd, step.level, step.name, at, 4) === 0) return 0;
      return setWithinLimit(fd, step.level, step.name);
    case "setBytes":
      arena.bytes.set(step.bytes);
      return libc.setsockoptAt(fd, step.level, step.name, at, step.bytes.length);
    case "setOptions": {
      let length = 0;
      for (const [code, value] of step.options) {
        arena.view.setUint32(length, code, true);
        arena.view.setUint32(length + 4, value, true);
        length += tcp.TCP_REPAIR_OPT_SIZE;
      }
      return libc.setsockoptAt(fd, so.IPPROTO_TCP, tcp.TCP_REPAIR_OPTIONS, at, length);
    }
    case "setWindow": {
      const { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = step.window;
      arena.view.setUint32(0, snd_wl1, true);
      arena.view.setUint32(4, snd_wnd, true);
      arena.view.setUint32(8, max_window, true);
      arena.view.setUint32(12, rcv_wnd, true);
      arena.view.setUint32(16, rcv_wup, true);
      return libc.setsockoptAt(fd, so.IPPROTO_TCP, tcp.TCP_REPAIR_WINDOW, at, tcp.TCP_REPAIR_WINDOW_SIZE);
    }
    case "bind":
      return libc.bindAt(fd, at, encodeSockaddrInto(arena.bytes, step.end.address, step.end.port));
    case "connect":
      return libc.connectAt(fd, at, encodeSockaddrInto(arena.bytes, step.end.address, step.end.port));
    case "startConnect": {
      const flags = check(libc.fcntl(fd, F_GETFL, 0), "fcntl", { fd });
      check(libc.fcntl(fd, F_SETFL, flags | O_NONBLOCK), "fcntl", { fd });
      const result = libc.connectAt(fd, at, encodeSockaddrInto(arena.bytes, step.end.address, step.end.port));
      if (result < 0 && lastErrno() !== EINPROGRESS) return result;
      return libc.fcntl(fd, F_SETFL, flags);
    }
    case "write":
      writeAll(fd, step.bytes);
      return 0;
    case "shutdown":
      return libc.shutdown(fd, so.SHUT_WR);
    case "feed":
      feed(fd, step.packet);
      return 0;
    default: {
      const unreachable: never = step;
      return unreachable;
    }
  }
}

/** Codes that go beyond net.core.[rw]mem_max, and those that keep to it and need no capability. */
const WITHIN_LIMIT = new Map([
  [so.SO_SNDBUFFORCE, so.SO_SNDBUF],
  [so.SO_RCVBUFFORCE, so.SO_RCVBUF],
]);

/** Outside the first user namespace no buffer can be forced beyond the limits. The value is in the arena. */
function setWithinLimit(fd: number, level: number, name: number): number {
  const modest = level === so.SOL_SOCKET && lastErrno() === EPERM ? WITHIN_LIMIT.get(name) : undefined;
  return modest === undefined ? -1 : libc.setsockoptAt(fd, level, modest, at, 4);
}

/** Into the receive queue go at most 17 pages at a time (net/ipv4/tcp.c tcp_send_rcvq). Throws ENOBUFS when full. */
function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const rest = bytes.subarray(done);
    const sent = Number(libc.sendto(fd, rest, rest.length, so.MSG_DONTWAIT | so.MSG_NOSIGNAL, null, 0));
    if (sent > 0) {
      done += sent;
      continue;
    }
    const errno = lastErrno();
    throw new SyscallError("send", errno === EAGAIN ? ENOBUFS : errno, { fd, done, length: bytes.length });
  }
}

const WARM_UP_ROUNDS = 300;
const LOOPBACK = Uint8Array.of(127, 0, 0, 1);
const DISCARD_PORT = 9;

/**
 * Has this thread's restore path compiled before the first client waits for it: cold, a restore takes 0.3 ms
 * instead of 15 µs. Restores connections on the loopback and closes them in repair mode, so no packet leaves.
 * Throws SyscallError EPERM without CAP_NET_ADMIN.
 */
export function warmUpRestore(options: readonly IntOption[]): void {
  const handshake = {
    remote: { address: LOOPBACK, port: DISCARD_PORT },
    iss: 1,
    irs: 1,
    advmss: 1460,
    synWindow: 64_240,
    mss: 1460,
    snd_wnd: 65_160,
    snd_wscale: 7,
    rcv_wscale: 7,
    sackPermitted: true,
    tsval: 2,
  };
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    const local = { address: LOOPBACK, port: 0 };
    const plan = restorePlan(fromHandshake({ ...handshake, local }, options));
    libc.close(restoreBySyscalls(plan.slice(0, -1))); // all but leaving repair mode
  }
}
