import type { Network } from "../config/networks.ts";
import { parseAddress } from "../native/address.ts";

/** Networks that an address is looked up in. */
export class NetworkList {
  readonly #networks: readonly { readonly bytes: Uint8Array; readonly prefixLength: number }[];

  constructor(networks: readonly Network[]) {
    this.#networks = networks.map(({ address, prefixLength }) => ({
      bytes: parseAddress(address) ?? new Uint8Array(),
      prefixLength,
    }));
  }

  /** Whether an address, of 4 or 16 bytes, lies in one of them. */
  has(address: Uint8Array): boolean {
    for (const { bytes, prefixLength } of this.#networks) {
      if (bytes.length === address.length && beginsAlike(bytes, address, prefixLength)) return true;
    }
    return false;
  }
}

function beginsAlike(a: Uint8Array, b: Uint8Array, bits: number): boolean {
  const whole = bits >> 3;
  for (let at = 0; at < whole; at++) if (a[at] !== b[at]) return false;
  const rest = 8 - (bits & 7);
  return rest === 8 || a[whole]! >> rest === b[whole]! >> rest;
}
