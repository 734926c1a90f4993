/**
 * Runs a restore plan with plain system calls. One arena per thread holds every argument, so that a
 * restore allocates nothing outside its plan.
 */
import { AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_STREAM } from "../abi/socket.ts";
import * as tcp from "../abi/tcp.ts";
import { encodeSockaddrInto } from "../address.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { fromHandshake, type IntOption } from "./image.ts";
import { type RepairOp, restorePlan } from "./plan.ts";

const IPPROTO_TCP = 6;
const ARENA_SIZE = 4096;

const arena = Memory.anonymous(ARENA_SIZE);
const at = arena.address;

/**
 * Executes the operations in order on a new socket and returns its descriptor, which the caller owns.
 * `socketFlags` joins SOCK_CLOEXEC (SOCK_NONBLOCK for an epoll loop, 0 for io_uring).
 * Throws SyscallError naming the failed operation, with the socket closed silently (it is in repair mode):
 * EPERM without CAP_NET_ADMIN, EADDRNOTAVAIL from bind when the local address is gone and from connect when
 * the tuple is connected already (__inet_check_established), EMFILE.
 */
export function restoreBySyscalls(plan: readonly RepairOp[], socketFlags = 0): number {
  let fd = -1;
  try {
    for (const step of plan) {
      if (step.op === "socket") {
        const family = step.family === 4 ? AF_INET : AF_INET6;
        fd = check(libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC | socketFlags, 0), "socket", step);
      } else if (apply(fd, step) < 0) {
        throw new SyscallError(step.op, lastErrno(), step);
      }
    }
  } catch (error) {
    if (fd >= 0) libc.close(fd);
    throw error;
  }
  return fd;
}

function apply(fd: number, step: Exclude<RepairOp, { op: "socket" }>): number {
  switch (step.op) {
    case "setInt":
      arena.view.setInt32(0, step.value | 0, true);
      return libc.setsockoptAt(fd, step.level, step.name, at, 4);
    case "setEmpty":
      return libc.setsockoptAt(fd, step.level, step.name, at, 0);
    case "setOptions": {
      let length = 0;
      for (const [code, value] of step.options) {
        arena.view.setUint32(length, code, true);
        arena.view.setUint32(length + 4, value, true);
        length += tcp.TCP_REPAIR_OPT_SIZE;
      }
      return libc.setsockoptAt(fd, IPPROTO_TCP, tcp.TCP_REPAIR_OPTIONS, at, length);
    }
    case "setWindow": {
      const { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = step.window;
      arena.view.setUint32(0, snd_wl1, true);
      arena.view.setUint32(4, snd_wnd, true);
      arena.view.setUint32(8, max_window, true);
      arena.view.setUint32(12, rcv_wnd, true);
      arena.view.setUint32(16, rcv_wup, true);
      return libc.setsockoptAt(fd, IPPROTO_TCP, tcp.TCP_REPAIR_WINDOW, at, tcp.TCP_REPAIR_WINDOW_SIZE);
    }
    case "bind":
      return libc.bindAt(fd, at, encodeSockaddrInto(arena.bytes, step.end.address, step.end.port));
    case "connect":
      return libc.connectAt(fd, at, encodeSockaddrInto(arena.bytes, step.end.address, step.end.port));
    default: {
      const unreachable: never = step;
      return unreachable;
    }
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
