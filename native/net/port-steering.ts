/**
 * One listener for a span of ports: what upstreams send to any of them meets it, so that a half-open needs no socket.
 * A socket on the span's last port says that the span is taken; nobody else of the namespace can have it then.
 */
import { BPF_F_NO_PREALLOC, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_SOCKMAP } from "../abi/bpf.ts";
import { O_CLOEXEC, O_RDONLY } from "../abi/fcntl.ts";
import {
  attachLookup,
  createMap,
  deleteElement,
  loadProgram,
  SK_LOOKUP,
  updateElement,
} from "../bpf/objects.ts";
import { type PortSpan, steeringProgram, UPSTREAM_KEY_SIZE, upstreamKey } from "../bpf/steering-program.ts";
import { check } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { reservePort } from "./tcp-socket.ts";

const UPSTREAMS_MAX = 65_536;
const NAMESPACE = "/proc/thread-self/ns/net";
const PRESENT = Uint8Array.of(1);

/** What steering is made of: only making it needs CAP_BPF. The first and the last end with the process, and it with them. */
export interface SteeringObjects {
  readonly listener: Fd;
  readonly upstreams: Fd;
  readonly link: Fd;
}

/**
 * Steers `span` in the calling thread's network namespace to a listener guarded by `guard`, an eBPF socket filter;
 * nothing before add(). Throws SyscallError EADDRINUSE when somebody has the span's last port, EPERM without CAP_BPF
 * and CAP_NET_ADMIN, EINVAL before Linux 5.9.
 */
export function createSteeringObjects(dualStack: boolean, guard: Fd, span: PortSpan): SteeringObjects {
  const made: Fd[] = [];
  const keep = (fd: Fd): Fd => {
    made.push(fd);
    return fd;
  };
  try {
    const listener = keep(reservePort(dualStack, guard, { port: span.last }).fd);
    const upstreams = keep(
      createMap({
        name: "accel_upstreams",
        type: BPF_MAP_TYPE_HASH,
        keySize: UPSTREAM_KEY_SIZE,
        valueSize: PRESENT.length,
        entries: UPSTREAMS_MAX,
        flags: BPF_F_NO_PREALLOC,
      }),
    );
    using listeners = createMap({
      name: "accel_listener",
      type: BPF_MAP_TYPE_SOCKMAP,
      keySize: 4,
      valueSize: 4,
      entries: 1,
      flags: 0,
    });
    const number = new Uint8Array(Uint32Array.of(listener.number).buffer);
    updateElement(listeners, new Uint8Array(4), number);
    const maps = { upstreams: upstreams.number, listeners: listeners.number };
    using program = loadProgram("accel_steering", SK_LOOKUP, steeringProgram(span, maps));
    const path = NAMESPACE;
    using namespace = new Fd(check(libc.open(path, O_RDONLY | O_CLOEXEC, 0), "open", { path }));
    const link = keep(attachLookup(program, namespace));
    return { listener, upstreams, link };
  } catch (error) {
    for (const fd of made) fd.close();
    throw error;
  }
}

export class PortSteering {
  readonly #objects: SteeringObjects;

  /** Of these objects, which are its own from now on. */
  constructor(objects: SteeringObjects) {
    this.#objects = objects;
  }

  /** Steers what this upstream sends. Throws SyscallError E2BIG beyond 65,536 upstreams. */
  add(address: Uint8Array, port: number): void {
    updateElement(this.#objects.upstreams, upstreamKey(address, port), PRESENT);
  }

  /** Leaves it to the kernel again. Throws SyscallError ENOENT for one that was not added. */
  remove(address: Uint8Array, port: number): void {
    deleteElement(this.#objects.upstreams, upstreamKey(address, port));
  }

  close(): void {
    this.#objects.link.close();
    this.#objects.listener.close();
    this.#objects.upstreams.close();
  }
}
