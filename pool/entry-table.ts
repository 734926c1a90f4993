/**
 * The half-open connections of the process, in memory every thread sees.
 *
 *             SYN sent        SYN-ACK          offer taken        socket closed       rested
 *   free ──▶ opening ──▶ ready ──▶ leased ──▶ finished ──▶ resting ──▶ free
 *               │           │  (irs changed: stays ready)                 ▲
 *               └───────────┴── given up, RST sent ───────────────────────┘
 *
 * The keeper owns an entry in every state but leased, when the thread that took it does. Ownership passes
 * by one compare-and-swap on the pool's offer slot (pool-block.ts), never on the entry itself; the taker
 * gives it back by storing finished.
 */
import { ENTRIES_MAX } from "./limits.ts";

export const ENTRY_STATES = ["free", "opening", "ready", "leased", "finished", "resting"] as const;
export type EntryState = (typeof ENTRY_STATES)[number];

const MOVES = {
  free: ["opening"],
  opening: ["ready", "resting"],
  ready: ["leased", "resting"],
  leased: ["finished"],
  finished: ["resting"],
  resting: ["free"],
} as const satisfies Record<EntryState, readonly EntryState[]>;

const CODE = Object.fromEntries(ENTRY_STATES.map((state, code) => [state, code])) as Record<
  EntryState,
  number
>;

/** How a leased connection ended; decides how long its port rests. */
export const ENDINGS = ["passive", "active", "reset", "unused"] as const;
/**
 * passive: the upstream closed first. active: we did, a TIME_WAIT of ours remains. reset: we aborted it.
 * unused: it never became a socket, the upstream still holds the half-open.
 */
export type Ending = (typeof ENDINGS)[number];

/** What a RST for a leased connection proved. unborn: bare and seq = irs+1, so no connection existed. */
export const VERDICTS = ["none", "unborn", "other"] as const;
export type Verdict = (typeof VERDICTS)[number];

/** Word offsets of an entry (32 words, 128 bytes). */
export const ENTRY = {
  state: 0,
  pool: 1,
  port: 2,
  iss: 3,
  irs: 4,
  synTsval: 5,
  synackTsval: 6,
  options: 7,
  mss: 8,
  snd_wnd: 9,
  snd_wscale: 10,
  rcv_wscale: 11,
  synackAt: 12,
  verdict: 13,
  ending: 14,
  endSeq: 15,
  advmss: 16,
  synWindow: 17,
  hopLimit: 18,
  synAt: 19, // ms of the clock, as synackAt: the last SYN sent
  source: 20, // 4 words: address bytes, network order
} as const;
const ENTRY_WORDS = 32;

/** Bits of ENTRY.options: what the SYN-ACK agreed to, and whether it looks like a SYN cookie. */
export const OPTION_TIMESTAMPS = 1;
export const OPTION_SACK = 2;
export const OPTION_WSCALE = 4;
export const OPTION_COOKIE = 8;

export class EntryTable {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;

  /** A new table, or another thread's by its buffer. */
  constructor(buffer = new SharedArrayBuffer(ENTRIES_MAX * ENTRY_WORDS * 4)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  get capacity(): number {
    return this.words.length / ENTRY_WORDS;
  }

  get(entry: number, field: number): number {
    return this.words[entry * ENTRY_WORDS + field]!;
  }

  /** The same as an unsigned integer, for sequence numbers and TSvals. */
  getU32(entry: number, field: number): number {
    return this.words[entry * ENTRY_WORDS + field]! >>> 0;
  }

  set(entry: number, field: number, value: number): void {
    this.words[entry * ENTRY_WORDS + field] = value;
  }

  /** Source address of the entry's SYN; a view into the table. */
  source(entry: number, length: number): Uint8Array {
    const at = (entry * ENTRY_WORDS + ENTRY.source) * 4;
    return this.bytes.subarray(at, at + length);
  }

  /** Whether an entry's SYN came from `address`. */
  isFrom(entry: number, address: Uint8Array): boolean {
    const at = (entry * ENTRY_WORDS + ENTRY.source) * 4;
    for (let index = 0; index < address.length; index++) {
      if (this.bytes[at + index] !== address[index]) return false;
    }
    return true;
  }

  /** All words of an entry, as bytes; a view into the table. */
  bytesOf(entry: number): Uint8Array {
    return this.bytes.subarray(entry * ENTRY_WORDS * 4, (entry + 1) * ENTRY_WORDS * 4);
  }

  /** Fills an entry nobody uses with the words another process had for it, in the state it has there. */
  adopt(entry: number, words: Uint8Array, state: EntryState): void {
    this.bytesOf(entry).set(words);
    Atomics.store(this.words, entry * ENTRY_WORDS + ENTRY.state, CODE[state]);
  }

  state(entry: number): EntryState {
    return ENTRY_STATES[Atomics.load(this.words, entry * ENTRY_WORDS + ENTRY.state)]!;
  }

  /** The one setter of the state. A move the table above does not know is our bug and throws. */
  move(entry: number, from: EntryState, to: EntryState): void {
    if (!(MOVES[from] as readonly EntryState[]).includes(to))
      throw new Error(`entry: no move ${from} → ${to}`);
    const at = entry * ENTRY_WORDS + ENTRY.state;
    const was = Atomics.compareExchange(this.words, at, CODE[from], CODE[to]);
    if (was !== CODE[from])
      throw new Error(`entry ${entry}: ${ENTRY_STATES[was]}, not ${from}, before ${to}`);
  }

  verdict(entry: number): Verdict {
    return VERDICTS[Atomics.load(this.words, entry * ENTRY_WORDS + ENTRY.verdict)]!;
  }

  setVerdict(entry: number, verdict: Verdict): void {
    Atomics.store(this.words, entry * ENTRY_WORDS + ENTRY.verdict, VERDICTS.indexOf(verdict));
  }
}
