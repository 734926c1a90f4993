/**
 * The requests a session has under way. A direction has one at a time, so an op names a request; those of the
 * upstream socket carry its epoch too, because a replay brings another socket while a request of the first
 * may still have to complete.
 */
import type { Driver } from "./driver.ts";

/** The low four bits of a tag; above them the epoch of the upstream socket. */
export const OP = {
  clientRecv: 0,
  clientSend: 1,
  upstreamRecv: 2,
  upstreamSend: 3,
  connect: 4,
} as const;
export type Op = (typeof OP)[keyof typeof OP];

const CLIENT_OPS: readonly Op[] = [OP.clientRecv, OP.clientSend];
const UPSTREAM_OPS: readonly Op[] = [OP.upstreamRecv, OP.upstreamSend, OP.connect];
const CLIENT_BITS = (1 << OP.clientRecv) | (1 << OP.clientSend);

export class SessionRequests {
  readonly #driver: Driver;
  readonly #slot: number;
  /** A bit per op of the current epoch. */
  #pending = 0;
  #outstanding = 0;
  #epoch = 0;

  constructor(driver: Driver, slot: number) {
    this.#driver = driver;
    this.#slot = slot;
  }

  /** True when no request of any epoch is under way: nothing of the session is in the kernel's hands. */
  get isIdle(): boolean {
    return this.#outstanding === 0;
  }

  isPending(op: Op): boolean {
    return (this.#pending & (1 << op)) !== 0;
  }

  /** `bulk`: more than an ordinary buffer of data is expected. */
  receive(op: Op, fd: number, bulk = false): void {
    this.#driver.recv(fd, this.#slot, this.#start(op), bulk);
  }

  /** The bytes at `address` must stay until the completion. `more`: more of them or their end follow at once. */
  send(op: Op, fd: number, address: number, length: number, more = false): void {
    this.#driver.send(fd, address, length, this.#slot, this.#start(op), more);
  }

  connect(fd: number, sockaddr: number, length: number): void {
    this.#driver.connect(fd, sockaddr, length, this.#slot, this.#start(OP.connect));
  }

  /** Notes a completion. Returns its op, or undefined when it is of an earlier upstream socket. */
  complete(tag: number): Op | undefined {
    const op = (tag & 0xf) as Op;
    this.#outstanding -= 1;
    if (tag !== this.#tag(op)) return undefined;
    this.#pending &= ~(1 << op);
    return op;
  }

  cancelAll(): void {
    this.#cancel(CLIENT_OPS);
    this.#cancel(UPSTREAM_OPS);
  }

  cancelClient(): void {
    this.#cancel(CLIENT_OPS);
  }

  /** Cancels what the upstream socket has under way; its completions are of an earlier epoch from now on. */
  abandonUpstream(): void {
    this.#cancel(UPSTREAM_OPS);
    this.#pending &= CLIENT_BITS;
    this.#epoch = (this.#epoch + 1) & 0xff;
  }

  #cancel(ops: readonly Op[]): void {
    for (const op of ops) if (this.isPending(op)) this.#driver.cancel(this.#slot, this.#tag(op));
  }

  #start(op: Op): number {
    this.#pending |= 1 << op;
    this.#outstanding += 1;
    return this.#tag(op);
  }

  #tag(op: Op): number {
    return op <= OP.clientSend ? op : (this.#epoch << 4) | op;
  }
}
