import { parseAddress } from "../native/address.ts";
import { probeRoute, type SynTemplate } from "../native/net/tcp-socket.ts";
import { ROUTE_MAX_AGE } from "./limits.ts";

/** What SYNs to one destination look like, asked of the kernel again from time to time. */
export class Route {
  readonly #address: Uint8Array;
  readonly #port: number;
  readonly #from: Uint8Array | undefined;
  #template: SynTemplate | undefined;
  #askedAtMs = 0;

  /** From an address that need not be this host's, or from the one that the kernel chooses. */
  constructor(address: Uint8Array, port: number, from: string | undefined) {
    this.#address = address;
    this.#port = port;
    this.#from = from === undefined ? undefined : parseAddress(from);
  }

  /** Throws SyscallError as probeRoute(). */
  template(nowMs: number): SynTemplate {
    if (this.#template && nowMs - this.#askedAtMs < ROUTE_MAX_AGE) return this.#template;
    this.#template = undefined;
    this.#template = probeRoute(this.#address, this.#port, this.#from);
    this.#askedAtMs = nowMs;
    return this.#template;
  }
}
