/**
 * Who hears the SYN-ACKs and RSTs that half-opens draw, and who guards their ports: eBPF socket filters that write
 * to ring buffers where this process may load them, else a raw socket and classic filters; and where a span of ports
 * is free, one listener for all of them instead of one for each. docs/internals/pool.md tells what each costs.
 */
import { existsSync } from "node:fs";
import { EOPNOTSUPP } from "../native/abi/errno.ts";
import { SO_ATTACH_BPF, SOL_SOCKET } from "../native/abi/socket.ts";
import { SyscallError } from "../native/errno.ts";
import type { Fd } from "../native/fd.ts";
import { HandshakeReceiver, type SegmentHandler } from "../native/net/handshake-receiver.ts";
import { HandshakeRing } from "../native/net/handshake-ring.ts";
import type { SteeringObjects } from "../native/net/port-steering.ts";
import { guardPort, type Reservation, reservePort, reservePortOf } from "../native/net/tcp-socket.ts";
import type { IntOption } from "../native/repair/image.ts";
import { handshakeOf, type KernelObjects, steeringOf } from "./kernel-objects.ts";
import type { Logger } from "./logger.ts";
import { SteeredPorts } from "./steered-ports.ts";

/** Makes ports that are silent about handshakes. */
export interface PortGuard {
  /** An ephemeral port, which the caller owns. Throws SyscallError EADDRINUSE (no port left) or EMFILE. */
  reserve(): Reservation;
  /** The same of one address, which need not be this host's. Throws EPERM without CAP_NET_ADMIN too. */
  reserveAt(address: Uint8Array): Reservation;
  /** Guards a port that another process reserved. */
  adopt(fd: Fd): void;
  /** This very port, whichever connections of ours have it. Throws SyscallError EADDRINUSE (a listener) or EMFILE. */
  reserveBeside(port: number): Reservation;
  /** Ports that share one listener; the caller owns them. Throws SyscallError EOPNOTSUPP, or as SteeredPorts. */
  steer(): SteeredPorts;
}

/** Hears SYN-ACKs and RSTs for guarded ports, and RSTs for the sockets made of half-opens, before TCP acts on them. */
export interface Hearing {
  /** One of them is readable when something was heard; borrowed until close(). */
  readonly fds: readonly Fd[];
  /** Those of them that tell of connections in use: nobody who naps may miss them. */
  readonly urgentFds: readonly Fd[];
  /** What each socket made of a half-open must have set, from before its connect(), to be heard. */
  readonly socketOptions: readonly IntOption[];
  /** How many segments were dropped unheard, as far as it is known; modulo 2^32. */
  readonly lost: number;
  /**
   * Hears this family from now on. True when `fds` changed. Throws SyscallError EPERM without CAP_NET_RAW,
   * EAFNOSUPPORT when the family is off.
   */
  add(family: 4 | 6): boolean;
  /** Hands every segment that waits to `handle`, for each tuple oldest first. */
  drain(handle: SegmentHandler): void;
  close(): void;
}

/** auto: what can be had, the first of these; steered is bpf with ports that share a listener. */
export type HearingKind = "auto" | "steered" | "bpf" | "raw";

/**
 * Opens what `kind` says, of `objects` if there are any; ports are of both families where `dualStack`. Throws SyscallError for steered and bpf where
 * BPF cannot be had, as HandshakeRing; for the others never.
 */
export function openHearing(
  kind: HearingKind,
  dualStack: boolean,
  log: Logger,
  objects?: KernelObjects,
): Hearing & PortGuard {
  if (kind === "raw") return new RawHearing(dualStack);
  try {
    return new RingHearing(dualStack, objects);
  } catch (error) {
    if (kind !== "auto" || !(error instanceof SyscallError)) throw error;
    log.debug({ err: error }, "no eBPF for handshakes: hearing them with a raw socket");
    return new RawHearing(dualStack);
  }
}

/** Are there IPv6 sockets, which take both families? */
export function ipv6Exists(): boolean {
  return existsSync("/proc/sys/net/ipv6");
}

/** Ports that share a listener, if `kind` wants them. Throws SyscallError for steered where they cannot be had. */
export function openSteering(kind: HearingKind, guard: PortGuard, log: Logger): SteeredPorts | undefined {
  if (kind === "bpf" || kind === "raw") return undefined;
  try {
    return guard.steer();
  } catch (error) {
    if (kind === "steered" || !(error instanceof SyscallError)) throw error;
    log.debug({ err: error }, "no ports that share a listener: each half-open has its own");
    return undefined;
  }
}

class RawHearing implements Hearing, PortGuard {
  readonly socketOptions: readonly IntOption[] = [];
  readonly lost = 0; // the kernel does not tell
  readonly #dualStack: boolean;
  readonly #receivers = new Map<4 | 6, HandshakeReceiver>();

  constructor(dualStack: boolean) {
    this.#dualStack = dualStack;
  }

  get fds(): readonly Fd[] {
    return [...this.#receivers.values()].map(({ fd }) => fd);
  }

  get urgentFds(): readonly Fd[] {
    return this.fds;
  }

  reserve(): Reservation {
    return reservePort(this.#dualStack);
  }

  reserveAt(address: Uint8Array): Reservation {
    return reservePortOf(address);
  }

  adopt(fd: Fd): void {
    guardPort(fd);
  }

  reserveBeside(port: number): Reservation {
    return reservePort(this.#dualStack, undefined, { port, besideOthers: true });
  }

  /** A listener for many needs to hear for them: only the filters do. */
  steer(): SteeredPorts {
    throw new SyscallError("bpf", EOPNOTSUPP, { hearing: "raw" });
  }

  add(family: 4 | 6): boolean {
    if (this.#receivers.has(family)) return false;
    this.#receivers.set(family, new HandshakeReceiver(family));
    return true;
  }

  drain(handle: SegmentHandler): void {
    for (const receiver of this.#receivers.values()) receiver.drain(handle);
  }

  close(): void {
    for (const receiver of this.#receivers.values()) receiver.close();
  }
}

class RingHearing implements Hearing, PortGuard {
  readonly #ring: HandshakeRing;
  readonly fds: readonly Fd[];
  readonly urgentFds: readonly Fd[];
  readonly socketOptions: readonly IntOption[];
  readonly #dualStack: boolean;
  /** Made for this process by another, until they are used. */
  #steering: SteeringObjects | undefined;

  constructor(dualStack: boolean, objects: KernelObjects | undefined) {
    this.#dualStack = dualStack;
    this.#steering = objects && steeringOf(objects);
    this.#ring = new HandshakeRing(objects && handshakeOf(objects));
    const { guardFd, witnessFd, witness } = this.#ring;
    this.fds = [guardFd, witnessFd];
    this.urgentFds = [witnessFd];
    this.socketOptions = [{ level: SOL_SOCKET, name: SO_ATTACH_BPF, value: witness.number }];
  }

  get lost(): number {
    return this.#ring.lost;
  }

  reserve(): Reservation {
    return reservePort(this.#dualStack, this.#ring.guard);
  }

  reserveAt(address: Uint8Array): Reservation {
    return reservePortOf(address, this.#ring.guard);
  }

  adopt(fd: Fd): void {
    guardPort(fd, this.#ring.guard);
  }

  reserveBeside(port: number): Reservation {
    return reservePort(this.#dualStack, this.#ring.guard, { port, besideOthers: true });
  }

  steer(): SteeredPorts {
    const objects = this.#steering;
    this.#steering = undefined;
    return new SteeredPorts(this.#dualStack, this.#ring.guard, objects);
  }

  /** The programs hear both. */
  add(): boolean {
    return false;
  }

  drain(handle: SegmentHandler): void {
    this.#ring.drain(handle);
  }

  close(): void {
    this.#ring.close();
  }
}
