/** Integers of 32 bits, first in, first out. Nothing is allocated until their number doubles. */
export class IntQueue {
  #items = new Int32Array(1_024);
  #first = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#items.length) this.#grow();
    this.#items[(this.#first + this.#length) & (this.#items.length - 1)] = value;
    this.#length += 1;
  }

  /** The oldest, taken out. Only when there is one. */
  shift(): number {
    const value = this.#items[this.#first]!;
    this.#first = (this.#first + 1) & (this.#items.length - 1);
    this.#length -= 1;
    return value;
  }

  #grow(): void {
    const old = this.#items;
    this.#items = new Int32Array(2 * old.length);
    this.#items.set(old.subarray(this.#first));
    this.#items.set(old.subarray(0, this.#first), old.length - this.#first);
    this.#first = 0;
  }
}
