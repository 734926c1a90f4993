/**
 * Tells SYN cookies of Linux by their timestamps, from the first few on. A cookie keeps the options in the low
 * six bits of its TSval (net/ipv4/syncookies.c cookie_init_timestamp), and the TSval clock has one offset for
 * two addresses: all cookies of a destination have the same low bits, while those of stateful answers are the
 * clock's. Needed because a listener whose SYN queue is full answers some SYNs with cookies and others not, and
 * a cookie's connection without its TSval echoed is one without window scaling: 500 bytes in flight.
 *
 * One stateful answer in 64 looks like a cookie while there are any; what that costs is an RTT sample as old as
 * the entry at the upstream.
 */
const LOW_BITS = 0x3f;
const SAMPLES = 12;
const ALIKE = 4;

export class CookieStamps {
  readonly #samples: number[] = [];
  #mark: number | undefined;

  /** Learns from a new SYN's answer. True when it is the first sign of cookies after none. */
  learn(tsval: number): boolean {
    if (this.#samples.includes(tsval)) return false; // one burst of cookies says it once
    this.#samples.push(tsval);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    if (this.#mark !== undefined) {
      if (!this.#samples.some((sample) => this.looksMade(sample))) this.#mark = undefined;
      return false;
    }
    const low = tsval & LOW_BITS;
    if (this.#samples.filter((sample) => (sample & LOW_BITS) === low).length < ALIKE) return false;
    this.#mark = low;
    return true;
  }

  /** Whether an answer with this TSval is a cookie, as far as is known. */
  looksMade(tsval: number): boolean {
    return (tsval & LOW_BITS) === this.#mark;
  }
}
