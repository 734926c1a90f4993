/**
 * Ports. A reservation is a listening socket that answers nothing (native/net/tcp-socket.ts); several
 * destinations use the same one at a time, each tuple at most once. Taking a port for a destination gives
 * one it has not used, or that rested longest.
 *
 * Reservations no tuple uses are kept as a stock; beyond RESERVATIONS_OPEN_MAX one is closed as soon as all
 * its tuples are leased, since an established socket holds its port itself. So is each, and no stock is kept, while
 * the descriptors that sessions need too are scarce.
 */
import { EMFILE } from "../native/abi/errno.ts";
import { SyscallError } from "../native/errno.ts";
import type { Fd } from "../native/fd.ts";
import type { Reservation } from "../native/net/tcp-socket.ts";
import type { Gate } from "./gate.ts";
import type { PortGuard } from "./hearing.ts";
import { RESERVATIONS_IDLE_MAX, RESERVATIONS_OPEN_MAX } from "./limits.ts";

/** A reservation and how many tuples use it. */
export interface Port {
  readonly reservation: Reservation;
  readonly number: number;
  /** Tuples opening, ready or resting: they need the listener's silence. */
  guarded: number;
  /** Tuples whose established socket holds the port. */
  leased: number;
}

export class Reservations {
  readonly #guard: PortGuard;
  readonly #descriptors: Gate | undefined;
  readonly #ports = new Set<Port>();
  #idle = 0;
  #made = 0;

  /** `descriptors` is what they are shared with; without it there are as many as the system has. */
  constructor(guard: PortGuard, descriptors?: Gate) {
    this.#guard = guard;
    this.#descriptors = descriptors;
  }

  get open(): number {
    return this.#ports.size;
  }

  /** How many were ever made: when it has not grown, a look for new ones finds none. */
  get made(): number {
    return this.#made;
  }

  /** Every open reservation, oldest first. */
  get ports(): Iterable<Port> {
    return this.#ports;
  }

  /**
   * Makes a new reservation. Throws SyscallError EADDRINUSE (no port left) or EMFILE (also when the descriptors left
   * are the sessions').
   */
  reserve(): Port {
    const reservation = this.#reserve();
    const port: Port = { reservation, number: reservation.port, guarded: 0, leased: 0 };
    this.#add(port);
    return port;
  }

  /** A reservation of another process, or that it had closed: then `fd` is not open. Throws SyscallError EMFILE. */
  adopt(number: number, fd: Fd): Port {
    const port: Port = { reservation: { fd, port: number }, number, guarded: 0, leased: 0 };
    if (!fd.isOpen) return port;
    if (this.#descriptors?.borrow() === false) throw new SyscallError("recvmsg", EMFILE, { shared: true });
    this.#guard.adopt(fd);
    this.#add(port);
    return port;
  }

  /** A tuple starts to use the port. */
  guard(port: Port): void {
    if (port.guarded + port.leased === 0) this.#idle -= 1;
    port.guarded += 1;
  }

  /** The tuple was leased: its socket holds the port too. */
  lease(port: Port): void {
    port.guarded -= 1;
    port.leased += 1;
    const isMany = this.#isScarce || this.#ports.size > RESERVATIONS_OPEN_MAX;
    if (port.guarded === 0 && isMany) this.#close(port);
  }

  /** The leased tuple's socket is gone; its port rests. False: the reservation was closed meanwhile. */
  rest(port: Port): boolean {
    port.leased -= 1;
    port.guarded += 1;
    return port.reservation.fd.isOpen;
  }

  /** The tuple is done with the port. False: it is closed now, or was. */
  unguard(port: Port): boolean {
    port.guarded -= 1;
    if (!port.reservation.fd.isOpen) return false;
    if (port.guarded + port.leased > 0) return true;
    if (this.#isScarce || this.#idle >= RESERVATIONS_IDLE_MAX) {
      this.#close(port);
      return false;
    }
    this.#idle += 1;
    return true;
  }

  close(): void {
    for (const port of [...this.#ports]) this.#close(port);
  }

  get #isScarce(): boolean {
    return this.#descriptors?.isScarce === true;
  }

  #reserve(): Reservation {
    if (this.#descriptors?.borrow() === false) throw new SyscallError("socket", EMFILE, { shared: true });
    try {
      return this.#guard.reserve();
    } catch (error) {
      this.#descriptors?.giveBack();
      throw error;
    }
  }

  #add(port: Port): void {
    this.#ports.add(port);
    this.#idle += 1;
    this.#made += 1;
  }

  #close(port: Port): void {
    if (!port.reservation.fd.isOpen) return;
    port.reservation.fd.close();
    this.#ports.delete(port);
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

  /** The tuple on this port has rested (or was never used): it may be taken again. */
  giveBack(port: Port): void {
    if (this.#reservations.unguard(port)) this.#rested.push(port);
    else this.#used.delete(port);
  }

  #restedPort(): Port | undefined {
    for (;;) {
      const port = this.#rested.shift();
      if (port === undefined || port.reservation.fd.isOpen) return port;
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
