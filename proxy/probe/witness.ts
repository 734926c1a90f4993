import type { Endpoint } from "../../native/address.ts";
import { parseAddress } from "../../native/address.ts";
import { nowMs } from "../../native/clock.ts";
import { probeRoute, type Reservation, reservePort } from "../../native/net/tcp-socket.ts";
import { RST, type TcpSegment } from "../../native/wire/tcp.ts";
import { recordSyn } from "../../pool/entry-record.ts";
import { ENTRY, EntryTable } from "../../pool/entry-table.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import { bootSecret, SequenceSource, tsvalAt } from "../../pool/sequence.ts";
import { readSynOptions } from "../../pool/syn-options.ts";
import { type Afterwards, isOver, type Watched } from "./lifetime.ts";
import * as limits from "./limits.ts";
import type { Observer } from "./observer.ts";
import { type Pacer, pause, until } from "./pacing.ts";

const ENTRY_ONLY = 0;
const ENTRY_BYTES = 128;
const POLL_MS = 10;

/**
 * One half-open that is opened as the pool opens them and then left alone, to see what becomes of it. Owns a
 * port and a raw socket until close(), which gives it up with a RST.
 */
export class Witness {
  readonly #table = new EntryTable(new SharedArrayBuffer(ENTRY_BYTES));
  readonly #wire = new HandshakeWire(this.#table);
  readonly #options = readSynOptions();
  readonly #reservation: Reservation;
  readonly #observer: Observer;
  readonly #to: { readonly address: Uint8Array; readonly port: number };
  readonly #heard: { readonly seq: number; readonly atMs: number }[] = [];
  #wasReset = false;
  #isOpen = false;

  /** Sends nothing yet. Throws SyscallError EPERM without CAP_NET_ADMIN, ENETUNREACH without a route. */
  constructor(server: Endpoint, observer: Observer) {
    const address = parseAddress(server.address);
    if (address === undefined) throw new Error(`not an address: ${server.address}`);
    this.#to = { address, port: server.port };
    this.#observer = observer;
    const template = probeRoute(address, server.port);
    this.#reservation = reservePort(address.length === 16);
    const { port } = this.#reservation;
    const sequence = new SequenceSource(bootSecret(), server);
    const numbers = {
      pool: 0,
      port,
      iss: sequence.iss(port, nowMs()),
      tsval: tsvalAt(nowMs(), sequence.tsOffset),
    };
    recordSyn(this.#table, ENTRY_ONLY, numbers, template);
    observer.watch(port, (segment, arrivedMs) => this.#onSegment(segment, arrivedMs));
  }

  /**
   * Opens the half-open and watches it until no SYN-ACK is to be expected any more, for `watchMs` at most.
   * Undefined when the server did not answer. Rejects when `stop` aborts.
   */
  async watch(pacer: Pacer, watchMs: number, stop: AbortSignal): Promise<Watched | undefined> {
    const first = await this.#ask(pacer, stop, () => this.#heard[0]);
    if (first === undefined) return undefined;
    const repeatedAtMs = () => this.#heard.slice(1).map(({ atMs }) => atMs - first.atMs);
    const isSeen = () => {
      const isDone = this.#wasReset || isOver(repeatedAtMs(), nowMs() - first.atMs);
      return isDone ? true : undefined;
    };
    await until(isSeen, watchMs, POLL_MS, stop);
    const watched = { repeatedAtMs: repeatedAtMs(), watchedMs: nowMs() - first.atMs };
    return { ...watched, afterwards: await this.#askAgain(first.seq, pacer, stop) };
  }

  close(): void {
    this.#observer.watch(this.#reservation.port, undefined);
    const iss = this.#table.getU32(ENTRY_ONLY, ENTRY.iss);
    if (this.#isOpen && !this.#wasReset) this.#wire.reset(ENTRY_ONLY, this.#to, (iss + 1) >>> 0);
    this.#wire.close();
    this.#reservation.fd.close();
  }

  /** Sends the SYN, a few times if need be, until `answered` returns something. */
  async #ask<T>(pacer: Pacer, stop: AbortSignal, answered: () => T | undefined): Promise<T | undefined> {
    for (let turn = 0; turn < limits.REPEATS_MAX; turn++) {
      await pacer.turn(stop);
      this.#isOpen = true;
      this.#wire.syn(ENTRY_ONLY, this.#to, this.#options);
      const answer = await until(answered, limits.REPEAT_GAP * (turn + 1), POLL_MS, stop);
      if (answer !== undefined || this.#wasReset) return answer;
    }
    return undefined;
  }

  async #askAgain(seq: number, pacer: Pacer, stop: AbortSignal): Promise<Afterwards> {
    if (this.#wasReset) return "reset";
    await pause((this.#heard.at(-1)?.atMs ?? 0) + limits.REPEAT_GAP - nowMs(), stop);
    const count = this.#heard.length;
    const answer = await this.#ask(pacer, stop, () => this.#heard[count]);
    if (this.#wasReset) return "reset";
    if (answer === undefined) return "silence";
    return answer.seq === seq ? "same sequence number" : "another sequence number";
  }

  #onSegment(segment: TcpSegment, arrivedMs: number): void {
    const iss = this.#table.getU32(ENTRY_ONLY, ENTRY.iss);
    if ((segment.flags & RST) !== 0) this.#wasReset = true;
    else if (segment.ack === (iss + 1) >>> 0) this.#heard.push({ seq: segment.seq, atMs: arrivedMs });
  }
}
