const PORTS = 65_536;
/** Connections of one port, to different destinations, that are known at a time; others are not noted. */
const PLACES = 8;

/**
 * The connections to upstreams of all workers, by local port and destination, in memory that they share: a client whose
 * connection is one of them is ourselves.
 */
export class OwnConnections {
  readonly #words: Int32Array;

  static newBuffer(): SharedArrayBuffer {
    return new SharedArrayBuffer(PORTS * PLACES * 4);
  }

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  add(port: number, destination: number): void {
    for (let place = PLACES * port; place < PLACES * (port + 1); place++) {
      if (Atomics.compareExchange(this.#words, place, 0, destination) === 0) return;
    }
  }

  remove(port: number, destination: number): void {
    for (let place = PLACES * port; place < PLACES * (port + 1); place++) {
      if (Atomics.compareExchange(this.#words, place, destination, 0) === destination) return;
    }
  }

  has(port: number, destination: number): boolean {
    for (let place = PLACES * port; place < PLACES * (port + 1); place++) {
      if (Atomics.load(this.#words, place) === destination) return true;
    }
    return false;
  }
}

/** A server's name, and the address that it sees where that is not this host's, as a number, never 0 (FNV-1a). */
export function connectionHash(name: string, source?: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  for (const byte of source ?? []) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash === 0 ? 1 : hash | 0;
}
