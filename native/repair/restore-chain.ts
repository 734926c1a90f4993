/**
 * Runs restore plans through an io_uring: after one socket(2) each, the rest of every plan is a chain of linked
 * entries, and all chains go with one io_uring_enter(2). It spares the calls, not the work: where calls are cheap it is
 * slower than restoreBySyscalls() (docs/internals/repair.md). For idle connections: a chain fills no queues.
 * Needs IORING_OP_BIND (Linux 6.11).
 */
import { AF_INET, AF_INET6, IPPROTO_TCP, SOCK_CLOEXEC, SOCK_STREAM } from "../abi/socket.ts";
import * as tcp from "../abi/tcp.ts";
import { encodeSockaddrInto } from "../address.ts";
import { check, SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { Ring } from "../ring/ring.ts";
import type { RepairOp, SocketOp } from "./ops.ts";

/** Longest plan, and the arena each chain has for its arguments. */
const OPS_MAX = 32;
const ARENA_SIZE = 1024;

export class ChainRestorer {
  readonly #ring: Ring;
  readonly #arena: Memory;
  readonly #batchMax: number;
  readonly #fds: number[] = [];
  /** Entries of one call carry numbers from here on, so that what a failed call left behind is known as such. */
  #firstNumber = 0;
  #errno = 0;

  /** For up to `batchMax` plans at a time, 1 .. 1024. Throws RingUnavailableError. */
  constructor(batchMax: number) {
    this.#ring = new Ring({ entries: batchMax * OPS_MAX });
    this.#arena = Memory.anonymous(batchMax * ARENA_SIZE);
    this.#batchMax = batchMax;
  }

  /**
   * Executes all plans. Returns the sockets in their order, which the caller owns. Throws SyscallError with the
   * first error, all sockets closed: EPERM, EADDRINUSE and so on as restoreBySyscalls(), EINVAL where the kernel
   * lacks an operation.
   */
  restore(plans: readonly (readonly RepairOp[])[], socketFlags = 0): readonly number[] {
    if (plans.length > this.#batchMax)
      throw new RangeError(`${plans.length} plans, at most ${this.#batchMax}`);
    this.#fds.length = 0;
    this.#errno = 0;
    this.#firstNumber = (this.#firstNumber + this.#batchMax) & 0x3fff_ffff;
    try {
      for (const [index, plan] of plans.entries()) this.#queue(plan, index, socketFlags);
      this.#finish(plans.length);
      if (this.#errno !== 0) throw new SyscallError("io_uring chain", this.#errno, { plans: plans.length });
    } catch (error) {
      for (const fd of this.#fds) libc.close(fd);
      throw error;
    }
    return this.#fds.slice();
  }

  close(): void {
    this.#ring.close();
    this.#arena.close();
  }

  /** The plan's entries, each linked to the next one; the last is the one that completes. */
  #queue(plan: readonly RepairOp[], index: number, socketFlags: number): void {
    let fd = -1;
    let at = index * ARENA_SIZE;
    for (const [step, op] of plan.entries()) {
      if (op.op === "socket") {
        const family = op.family === 4 ? AF_INET : AF_INET6;
        fd = check(libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC | socketFlags, 0), "socket", op);
        this.#fds.push(fd);
        continue;
      }
      at = this.#queueOp(fd, op, at, this.#firstNumber + index);
      if (step < plan.length - 1) this.#ring.submissions.linkLast();
    }
  }

  /** Queues one operation with its argument at `at` of the arena. Returns where the next argument goes. */
  #queueOp(fd: number, op: SocketOp, at: number, number: number): number {
    const { view, address } = this.#arena;
    const queue = this.#ring.submissions;
    const option = (level: number, name: number, length: number): number => {
      queue.setsockopt(fd, level, name, address + at, length, number);
      return at + length;
    };
    switch (op.op) {
      case "setInt":
        view.setInt32(at, op.value | 0, true);
        return option(op.level, op.name, 4);
      case "setBytes":
        this.#arena.bytes.set(op.bytes, at);
        return option(op.level, op.name, op.bytes.length);
      case "setOptions": {
        for (const [which, [code, value]] of op.options.entries()) {
          view.setUint32(at + which * tcp.TCP_REPAIR_OPT_SIZE, code, true);
          view.setUint32(at + which * tcp.TCP_REPAIR_OPT_SIZE + 4, value, true);
        }
        return option(IPPROTO_TCP, tcp.TCP_REPAIR_OPTIONS, op.options.length * tcp.TCP_REPAIR_OPT_SIZE);
      }
      case "setWindow": {
        const { snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup } = op.window;
        for (const [field, value] of [snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup].entries()) {
          view.setUint32(at + field * 4, value, true);
        }
        return option(IPPROTO_TCP, tcp.TCP_REPAIR_WINDOW, tcp.TCP_REPAIR_WINDOW_SIZE);
      }
      case "bind":
      case "connect": {
        const length = encodeSockaddrInto(this.#arena.bytes.subarray(at), op.end.address, op.end.port);
        if (op.op === "bind") queue.bind(fd, address + at, length, number);
        else queue.connect(fd, address + at, length, number);
        return at + length;
      }
      case "startConnect":
      case "write":
      case "shutdown":
      case "feed":
        throw new Error(`a chain cannot ${op.op}`);
      default: {
        const unreachable: never = op;
        return unreachable;
      }
    }
  }

  /** Submits, and reads completions until every chain has ended: by its last entry, or by a failed one. */
  #finish(chains: number): void {
    const ended = new Set<number>();
    while (ended.size < chains) {
      this.#ring.enter(Number.POSITIVE_INFINITY);
      const { completions } = this.#ring;
      for (let left = completions.available; left > 0; left--) {
        completions.next();
        const { userData, result } = completions;
        if (userData < this.#firstNumber || userData >= this.#firstNumber + chains) continue;
        // The first failure of a chain says why; what follows it is cancelled, the last entry too.
        if (result < 0 && this.#errno === 0) this.#errno = -result;
        ended.add(userData);
      }
      completions.publish();
    }
  }
}
