/**
 * Ports that need no socket of their own: those above net.ipv4.ip_local_port_range, which the kernel gives nobody who
 * did not ask for one, steered to one listener (native/net/port-steering.ts). Whoever binds one later all the same
 * keeps his own clients, but finds it in use while a connection of ours has it: net.ipv4.ip_local_reserved_ports names
 * those that are left alone.
 */
import { EADDRNOTAVAIL } from "../native/abi/errno.ts";
import type { PortSpan } from "../native/bpf/steering-program.ts";
import { SyscallError } from "../native/errno.ts";
import type { Fd } from "../native/fd.ts";
import { createSteeringObjects, PortSteering, type SteeringObjects } from "../native/net/port-steering.ts";
import { isPortFree } from "../native/net/tcp-socket.ts";
import { STEERED_PORTS_MIN, STEERED_TRIES } from "./limits.ts";
import { readSysctl } from "./sysctl.ts";

const PORT_MAX = 65_535;

/** Where a server is. */
export interface Upstream {
  readonly address: Uint8Array;
  readonly port: number;
}

/** Above the kernel's own choice. Throws SyscallError EADDRNOTAVAIL when too few are. */
export function steerableSpan(): PortSpan {
  const last = Number(readSysctl("net/ipv4/ip_local_port_range")?.split(/\s+/)[1]);
  if (PORT_MAX - last > STEERED_PORTS_MIN) return { first: last + 1, last: PORT_MAX };
  throw new SyscallError("bind", EADDRNOTAVAIL, { above: last });
}

export class SteeredPorts {
  readonly #dualStack: boolean;
  readonly #steering: PortSteering;
  /** Not given yet, the next one last. */
  readonly #numbers: number[] = [];

  /**
   * Steers them by `objects`, or by its own to a listener that `guard`, an eBPF socket filter, guards. Throws SyscallError
   * EADDRNOTAVAIL when net.ipv4.ip_local_port_range leaves too few, else as createSteeringObjects().
   */
  constructor(dualStack: boolean, guard: Fd, objects?: SteeringObjects) {
    const span = steerableSpan();
    this.#dualStack = dualStack;
    this.#steering = new PortSteering(objects ?? createSteeringObjects(dualStack, guard, span));
    const reserved = reservedPorts();
    // The last one is the listener's own.
    for (let port = span.last - 1; port >= span.first; port--) {
      if (!reserved.has(port)) this.#numbers.push(port);
    }
  }

  /**
   * A port nobody has, each once. Undefined when there is none, or not among the next few: those wait for a later call.
   * Takes 3 µs.
   */
  take(): number | undefined {
    for (let tries = 0; tries < STEERED_TRIES; tries++) {
      const port = this.#numbers.pop();
      if (port === undefined || isPortFree(this.#dualStack, port)) return port;
      this.#numbers.unshift(port);
    }
    return undefined;
  }

  /** From now on what this upstream sends to these ports is ours. Throws SyscallError E2BIG. */
  add({ address, port }: Upstream): void {
    this.#steering.add(address, port);
  }

  remove({ address, port }: Upstream): void {
    this.#steering.remove(address, port);
  }

  /** Every one of them is the kernel's again. */
  close(): void {
    this.#steering.close();
  }
}

/** Ports and ranges, as in 8080,9148-9150. */
function reservedPorts(): ReadonlySet<number> {
  const ports = new Set<number>();
  for (const range of (readSysctl("net/ipv4/ip_local_reserved_ports") ?? "").split(",")) {
    const [first = Number.NaN, last = first] = range.split("-").map(Number);
    for (let port = first; port <= last; port++) ports.add(port);
  }
  return ports;
}
