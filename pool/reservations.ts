/**
 * Ports. Each has a reservation, a listening socket that answers nothing (native/net/tcp-socket.ts), or is steered to
 * one that many share (steered-ports.ts) and costs nothing; several destinations use the same one at a time, each tuple
 * at most once. Taking a port for a destination gives one it has not used, or that rested longest.
 *
 * Steered ports are taken first, and kept. Reservations no tuple uses are kept as a stock; beyond RESERVATIONS_OPEN_MAX one is closed as soon as all
 * its tuples are leased, since an established socket holds its port itself. So is each, and no stock is kept, while
 * the descriptors that sessions need too are scarce, and of ports of a client's address.
 */
import { EMFILE } from "../native/abi/errno.ts";
import { SyscallError } from "../native/errno.ts";
import { Fd } from "../native/fd.ts";
import type { Reservation } from "../native/net/tcp-socket.ts";
import type { Gate } from "./gate.ts";
import type { PortGuard } from "./hearing.ts";
import { RESERVATIONS_IDLE_MAX, RESERVATIONS_OPEN_MAX } from "./limits.ts";
import type { SteeredPorts } from "./steered-ports.ts";

/** A port and how many tuples use it. */
export interface Port {
  readonly number: number;
  /** The reservation; undefined when the port is steered. */
  fd: Fd | undefined;
  /** Tuples opening, ready or resting: they need the listener's silence. */
  guarded: number;
  /** Tuples whose established socket holds the port. */
  leased: number;
}

/** Is the port silent? Not once its reservation was closed. */
export const isGuarded = ({ fd }: Port): boolean => fd === undefined || fd.isOpen;

export class Reservations {
  readonly #guard: PortGuard;
  readonly #descriptors: Gate | undefined;
  readonly #source: Uint8Array | undefined;
  readonly #ports = new Set<Port>();
  #steered: SteeredPorts | undefined;
  #reserved = 0;
  #idle = 0;
  #made = 0;

  /**
   * `descriptors` is what they are shared with; without it there are as many as the system has. Of `source` alone, an
   * address that need not be this host's, or of all addresses.
   */
  constructor(guard: PortGuard, descriptors?: Gate, source?: Uint8Array) {
    this.#guard = guard;
    this.#descriptors = descriptors;
    this.#source = source;
  }

  get open(): number {
    return this.#ports.size;
  }

  /** How many were ever made: when it has not grown, a look for new ones finds none. */
  get made(): number {
    return this.#made;
  }

  /** Every one, oldest first. */
  get ports(): Iterable<Port> {
    return this.#ports;
  }

  /** Takes ports from `steered` first, and owns them from now on. */
  steer(steered: SteeredPorts): void {
    this.#steered = steered;
  }

  /** Ends that: ports whose silence a tuple needs get a reservation, unless that fails; the others are closed. */
  unsteer(): void {
    for (const port of [...this.#ports]) if (port.fd === undefined) this.#anchor(port);
    this.#steered?.close();
    this.#steered = undefined;
  }

  /**
   * A new port. Throws SyscallError EADDRINUSE (no port left), EMFILE (also when the descriptors left are the
   * sessions') or, for a source, EPERM without CAP_NET_ADMIN.
   */
  reserve(): Port {
    const steered = this.#steered?.take();
    if (steered !== undefined) return this.#add({ number: steered, fd: undefined, guarded: 0, leased: 0 });
    const source = this.#source;
    const { fd, port: number } = this.#borrowing(() =>
      source === undefined ? this.#guard.reserve() : this.#guard.reserveAt(source),
    );
    return this.#add({ number, fd, guarded: 0, leased: 0 });
  }

  /** A reservation of another process, or that it had closed: then `fd` is not open. Throws SyscallError EMFILE. */
  adopt(number: number, fd: Fd): Port {
    const port: Port = { number, fd, guarded: 0, leased: 0 };
    if (!fd.isOpen) return port;
    if (this.#descriptors?.borrow() === false) throw new SyscallError("recvmsg", EMFILE, { shared: true });
    this.#guard.adopt(fd);
    return this.#add(port);
  }

  /** After another process may have guarded them for itself. */
  guardAgain(): void {
    for (const { fd } of this.#ports) if (fd) this.#guard.adopt(fd);
  }

  /** A tuple starts to use the port. */
  guard(port: Port): void {
    if (port.guarded + port.leased === 0 && port.fd !== undefined) this.#idle -= 1;
    port.guarded += 1;
  }

  /** The tuple was leased: its socket holds the port too. */
  lease(port: Port): void {
    port.guarded -= 1;
    port.leased += 1;
    const isMany = this.#isScarce || this.#reserved > RESERVATIONS_OPEN_MAX;
    if (port.guarded === 0 && isMany) this.#close(port);
  }

  /** The leased tuple's socket is gone; its port rests. */
  rest(port: Port): void {
    port.leased -= 1;
    port.guarded += 1;
  }

  /** The tuple is done with the port. False: it is closed now, or was. */
  unguard(port: Port): boolean {
    port.guarded -= 1;
    if (!isGuarded(port)) return false;
    if (port.fd === undefined || port.guarded + port.leased > 0) return true;
    if (this.#isScarce || this.#idle >= RESERVATIONS_IDLE_MAX) {
      this.#close(port);
      return false;
    }
    this.#idle += 1;
    return true;
  }

  close(): void {
    for (const port of [...this.#ports]) this.#close(port);
    this.#steered?.close();
  }

  get #isScarce(): boolean {
    return this.#source !== undefined || this.#descriptors?.isScarce === true;
  }

  #borrowing(reserve: () => Reservation): Reservation {
    if (this.#descriptors?.borrow() === false) throw new SyscallError("socket", EMFILE, { shared: true });
    try {
      return reserve();
    } catch (error) {
      this.#descriptors?.giveBack();
      throw error;
    }
  }

  #add(port: Port): Port {
    this.#ports.add(port);
    this.#made += 1;
    if (port.fd !== undefined) {
      this.#reserved += 1;
      this.#idle += 1;
    }
    return port;
  }

  #anchor(port: Port): void {
    port.fd = Fd.none();
    if (port.guarded > 0) {
      try {
        port.fd = this.#borrowing(() => this.#guard.reserveBeside(port.number)).fd;
        this.#reserved += 1;
        return;
      } catch (error) {
        if (!(error instanceof SyscallError)) throw error;
      }
    }
    this.#ports.delete(port);
  }

  #close(port: Port): void {
    if (port.fd?.isOpen !== true) return;
    port.fd.close();
    this.#ports.delete(port);
    this.#reserved -= 1;
    this.#descriptors?.giveBack();
  }
}

/** The ports of one destination: which it may use now. */
export class DestinationPorts {
  readonly #reservations: Reservations;
  readonly #used = new Set<Port>();
  readonly #rested: Port[] = [];
  #iterator: Iterator<Port> | undefined;
  #madeWhenExhausted = 0;

  constructor(reservations: Reservations) {
    this.#reservations = reservations;
  }

  /** A port no tuple of this destination uses. Throws as Reservations.reserve(). */
  take(): Port {
    const port = this.#restedPort() ?? this.#sharedPort() ?? this.#ownPort();
    this.#used.add(port);
    this.#reservations.guard(port);
    return port;
  }

  /** A tuple of this destination uses the port already. */
  adopt(port: Port): void {
    this.#used.add(port);
    this.#reservations.guard(port);
  }

  /** The tuple on this port was taken; rest() follows. */
  lease(port: Port): void {
    this.#reservations.lease(port);
  }

  /** The socket of a tuple that was taken is gone. */
  rest(port: Port): void {
    this.#reservations.rest(port);
  }

  /** The tuple on this port has rested (or was never used): it may be taken again. */
  giveBack(port: Port): void {
    if (this.#reservations.unguard(port)) this.#rested.push(port);
    else this.#used.delete(port);
  }

  #restedPort(): Port | undefined {
    for (;;) {
      const port = this.#rested.shift();
      if (port === undefined || isGuarded(port)) return port;
      this.#used.delete(port);
    }
  }

  #ownPort(): Port {
    const port = this.#reservations.reserve();
    if (this.#iterator === undefined) this.#madeWhenExhausted = this.#reservations.made;
    return port;
  }

  /** One that another destination reserved. */
  #sharedPort(): Port | undefined {
    if (this.#iterator === undefined && this.#madeWhenExhausted === this.#reservations.made) return undefined;
    this.#iterator ??= this.#reservations.ports[Symbol.iterator]();
    for (;;) {
      const next = this.#iterator.next();
      if (next.done) {
        this.#iterator = undefined;
        this.#madeWhenExhausted = this.#reservations.made;
        return undefined;
      }
      if (!this.#used.has(next.value)) return next.value;
    }
  }
}
