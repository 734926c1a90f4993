import type { Flights } from "./flights.ts";

const NONE = -1;

/** A session's first flight, kept for as long as it may have to be sent again. */
export class FirstFlight {
  readonly #flights: Flights;
  #slot = NONE;
  #start = 0;
  #end = 0;

  constructor(flights: Flights) {
    this.#flights = flights;
  }

  get isKept(): boolean {
    return this.#slot !== NONE;
  }

  /** Where what is left of it to send lies. */
  get address(): number {
    return this.#flights.address(this.#slot) + this.#start;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** Copies it; does nothing when it is too long to be one segment. */
  keep(address: number, length: number): void {
    this.#slot = this.#flights.keep(address, length);
    this.#start = 0;
    this.#end = length;
  }

  /** Keeps a copy that another session had. */
  put(bytes: Uint8Array): void {
    this.#slot = this.#flights.put(bytes);
    this.#start = 0;
    this.#end = bytes.length;
  }

  copy(): Uint8Array {
    return this.#flights.bytes(this.#slot).slice(this.#start, this.#end);
  }

  /** The first `count` bytes were sent once more; dropped when all were. */
  advance(count: number): void {
    this.#start += count;
    if (this.#start === this.#end) this.drop();
  }

  drop(): void {
    if (this.#slot === NONE) return;
    this.#flights.drop(this.#slot);
    this.#slot = NONE;
  }
}
