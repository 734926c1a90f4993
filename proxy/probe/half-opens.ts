import { SOCK_NONBLOCK } from "../../native/abi/socket.ts";
import type { Endpoint } from "../../native/address.ts";
import { EntryTable } from "../../pool/entry-table.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import { Keeper } from "../../pool/keeper.ts";
import { KeeperSignal } from "../../pool/signal.ts";
import { Taker } from "../../pool/taker.ts";
import { HALF_OPEN_AGE_MAX, HALF_OPENS, POOL_SYN_RATE } from "./limits.ts";

const silent = { debug: () => {}, info: () => {}, warn: () => {} };

/** The pool a probe takes from: the proxy's own, small and slow, in the calling thread. */
export class HalfOpens {
  readonly taker: Taker;
  readonly #keeper: Keeper;
  readonly #wire: HandshakeWire;

  /** Throws SyscallError EPERM without CAP_NET_RAW or CAP_NET_ADMIN. */
  constructor(server: Endpoint) {
    const table = new EntryTable();
    const signal = KeeperSignal.newBuffer();
    this.#keeper = new Keeper(table, signal, silent);
    this.#wire = new HandshakeWire(table);
    const share = this.#keeper.addPool({
      id: 1,
      upstream: "probe",
      server,
      min: HALF_OPENS,
      max: HALF_OPENS,
      maxSynRate: POOL_SYN_RATE,
      maxAgeMs: HALF_OPEN_AGE_MAX,
    });
    const shared = { table, wire: this.#wire, signal: new KeeperSignal(signal, this.#keeper.wakeFd) };
    this.taker = new Taker(share, shared, [], SOCK_NONBLOCK);
  }

  /** Takes in what has arrived and sends what is due. */
  step(): void {
    this.#keeper.step();
  }

  /** Smoothed time from SYN to SYN-ACK; 0 before the first. */
  get rttMs(): number {
    return this.taker.block.get("rttUs") / 1e3;
  }

  get hasCookies(): boolean {
    return this.taker.block.get("cookies") === 1;
  }

  /** Gives up every half-open with a RST. Connections that were taken go on. */
  close(): void {
    this.#keeper.close();
    this.#wire.close();
  }
}
