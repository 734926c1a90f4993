/** An upstream as one worker uses it: its servers, their pools, and whose turn it is. */
import { encodeSockaddr, parseAddress } from "../../native/address.ts";
import type { IntOption } from "../../native/repair/image.ts";
import { warmUpRestore } from "../../native/repair/restore.ts";
import { EntryTable } from "../../pool/entry-table.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import type { KeeperShare } from "../../pool/keeper-handle.ts";
import { KeeperSignal } from "../../pool/signal.ts";
import { Taker } from "../../pool/taker.ts";
import type { ServerShare, UpstreamShare } from "./messages.ts";

export interface Server {
  readonly name: string;
  readonly family: 4 | 6;
  readonly sockaddr: Uint8Array;
  readonly weight: number;
  readonly taker: Taker | undefined;
  /** Smooth weighted round-robin: grows by weight each turn, falls by the total when chosen. */
  credit: number;
}

/** What makes Takers on this thread; undefined where nothing is accelerated. */
export class TakerFactory {
  readonly #shared: ConstructorParameters<typeof Taker>[1];
  readonly #options: readonly IntOption[];
  readonly #socketFlags: number;

  constructor(keeper: KeeperShare, options: readonly IntOption[], socketFlags: number) {
    const table = new EntryTable(keeper.table);
    const signal = new KeeperSignal(keeper.signal, keeper.wakeFd);
    this.#shared = { table, signal, wire: new HandshakeWire(table) };
    this.#options = options;
    this.#socketFlags = socketFlags;
    warmUpRestore(options);
  }

  make(pool: NonNullable<ServerShare["pool"]>): Taker {
    return new Taker(pool, this.#shared, this.#options, this.#socketFlags);
  }
}

export class UpstreamServers {
  readonly name: string;
  readonly connectTimeoutMs: number;
  readonly #servers: Server[];
  readonly #totalWeight: number;

  constructor(share: UpstreamShare, takers: TakerFactory | undefined) {
    this.name = share.name;
    this.connectTimeoutMs = share.connectTimeoutMs;
    this.#servers = share.servers.map(({ endpoint, weight, pool }) => ({
      name: `${endpoint.address}#${endpoint.port}`,
      family: parseAddress(endpoint.address)?.length === 16 ? 6 : 4,
      sockaddr: encodeSockaddr(endpoint),
      weight,
      taker: pool && takers?.make(pool),
      credit: 0,
    }));
    this.#totalWeight = share.servers.reduce((sum, { weight }) => sum + weight, 0);
  }

  get size(): number {
    return this.#servers.length;
  }

  /** The server whose turn it is (smooth weighted round-robin), or undefined when there is none. */
  next(): Server | undefined {
    let chosen: Server | undefined;
    for (const server of this.#servers) {
      server.credit += server.weight;
      if (chosen === undefined || server.credit > chosen.credit) chosen = server;
    }
    if (chosen) chosen.credit -= this.#totalWeight;
    return chosen;
  }

  named(name: string | undefined): Server | undefined {
    return this.#servers.find((server) => server.name === name);
  }

  /** The server after `server` in the list, for another try. */
  after(server: Server): Server {
    const at = this.#servers.indexOf(server);
    return this.#servers[(at + 1) % this.#servers.length] ?? server;
  }
}
