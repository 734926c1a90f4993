import { probeRoute, type SynTemplate } from "../native/net/tcp-socket.ts";
import { ROUTE_MAX_AGE } from "./limits.ts";

/** What SYNs to one destination look like, asked of the kernel again from time to time. */
export class Route {
  readonly #address: Uint8Array;
  readonly #port: number;
  #template: SynTemplate | undefined;
  #askedAtMs = 0;

  constructor(address: Uint8Array, port: number) {
    this.#address = address;
    this.#port = port;
  }

  /** Throws SyscallError as probeRoute(). */
  template(nowMs: number): SynTemplate {
    if (this.#template && nowMs - this.#askedAtMs < ROUTE_MAX_AGE) return this.#template;
    this.#template = undefined;
    this.#template = probeRoute(this.#address, this.#port);
    this.#askedAtMs = nowMs;
    return this.#template;
  }
}
