/**
 * What the pool needs of bpf(2), made by a process that may for one that may not: the first opens them and becomes an
 * ordinary user, the second finds them by number.
 */
import { SyscallError } from "../native/errno.ts";
import { Fd } from "../native/fd.ts";
import { createHandshakeObjects, type HandshakeObjects } from "../native/net/handshake-ring.ts";
import { createSteeringObjects, type SteeringObjects } from "../native/net/port-steering.ts";
import { steerableSpan } from "./steered-ports.ts";

const HANDSHAKE = ["guarded", "witnessed", "lost", "guard", "witness"] as const;
const STEERING = ["listener", "upstreams", "link"] as const;

/** Descriptor numbers by what they are; structured-cloneable. Those of steering are all there or none. */
export type KernelObjects = Readonly<
  Record<(typeof HANDSHAKE)[number], number> & Partial<Record<(typeof STEERING)[number], number>>
>;

/** Makes what can be had, for ports of both families where `dualStack`; the descriptors are the caller's. Undefined where bpf(2) is refused. */
export function createKernelObjects(dualStack: boolean): KernelObjects | undefined {
  const handshake = attempt(createHandshakeObjects);
  if (handshake === undefined) return undefined;
  const steering = attempt(() => createSteeringObjects(dualStack, handshake.guard, steerableSpan()));
  const made: Partial<Record<string, number>> = {};
  for (const [name, fd] of Object.entries({ ...handshake, ...steering })) made[name] = fd.release();
  return asKernelObjects(made);
}

/** The same found by name; undefined unless all is there that must be. */
export function asKernelObjects(found: Readonly<Partial<Record<string, number>>>): KernelObjects | undefined {
  const isWhole = HANDSHAKE.every((name) => found[name] !== undefined);
  return isWhole ? (found as KernelObjects) : undefined;
}

export function handshakeOf(objects: KernelObjects): HandshakeObjects {
  const entries = HANDSHAKE.map((name) => [name, new Fd(objects[name])]);
  return Object.fromEntries(entries) as unknown as HandshakeObjects;
}

export function steeringOf({ listener, upstreams, link }: KernelObjects): SteeringObjects | undefined {
  if (listener === undefined || upstreams === undefined || link === undefined) return undefined;
  return { listener: new Fd(listener), upstreams: new Fd(upstreams), link: new Fd(link) };
}

function attempt<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof SyscallError) return undefined;
    throw error;
  }
}
