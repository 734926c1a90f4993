import { copyMemory, Memory } from "../../native/memory.ts";
import { FLIGHT_MAX, FLIGHTS_MAX } from "./limits.ts";

/**
 * First flights kept until it is known that they arrived. Slots are reused last in, first out, so that only
 * as much memory is touched as flights were ever unproven at a time.
 */
export class Flights {
  readonly #memory = Memory.anonymous(FLIGHT_MAX * FLIGHTS_MAX);
  readonly #free: number[] = [];
  #used = 0;

  /** Copies `length` bytes and returns a slot, or -1 when they are too many or all slots are taken. */
  keep(address: number, length: number): number {
    const slot = length > FLIGHT_MAX ? -1 : this.#take();
    if (slot >= 0) copyMemory(this.address(slot), address, length);
    return slot;
  }

  /** The same for bytes that another session had kept. */
  put(bytes: Uint8Array): number {
    const slot = bytes.length > FLIGHT_MAX ? -1 : this.#take();
    if (slot >= 0) this.bytes(slot).set(bytes);
    return slot;
  }

  /** All of a slot; a view. */
  bytes(slot: number): Uint8Array {
    return this.#memory.bytes.subarray(slot * FLIGHT_MAX, (slot + 1) * FLIGHT_MAX);
  }

  address(slot: number): number {
    return this.#memory.address + slot * FLIGHT_MAX;
  }

  drop(slot: number): void {
    this.#free.push(slot);
  }

  close(): void {
    this.#memory.close();
  }

  #take(): number {
    return this.#free.pop() ?? (this.#used < FLIGHTS_MAX ? this.#used++ : -1);
  }
}
