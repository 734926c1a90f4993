/**
 * Whom pools are for: an upstream, from this host's address or from a client's. Those that agree in both share their ports,
 * since their tuples must differ, and a segment that was heard belongs to an entry of one of them.
 *
 * Ports of this host are shared by all its endpoints, those of a client's address by the endpoints that come from it.
 */
import { formatAddress, formatEndpoint, parseAddress } from "../native/address.ts";
import type { TcpSegment } from "../native/wire/tcp.ts";
import type { Destination } from "./destination.ts";
import type { EntryTable } from "./entry-table.ts";
import type { LiveEntry } from "./live-entry.ts";
import type { PoolSpec } from "./pool-spec.ts";
import { DestinationPorts, type Reservations } from "./reservations.ts";

type Ends = Pick<PoolSpec, "server" | "source">;

interface Endpoint {
  readonly ports: DestinationPorts;
  readonly users: Destination[];
}

interface Source {
  readonly reservations: Reservations;
  endpoints: number;
}

export class Endpoints {
  readonly #table: EntryTable;
  readonly #own: Reservations;
  readonly #reservationsOf: (source: Uint8Array) => Reservations;
  readonly #all = new Map<string, Endpoint>();
  /** By the upstream's address and port. */
  readonly #byUpstream = new Map<string | number, Destination[]>();
  readonly #sources = new Map<string, Source>();

  /** Pools of this host's address have ports of `own`; those of another one have their own, made when needed. */
  constructor(table: EntryTable, own: Reservations, reservationsOf: (source: Uint8Array) => Reservations) {
    this.#table = table;
    this.#own = own;
    this.#reservationsOf = reservationsOf;
  }

  /** Where a pool is to have its ports from; add() follows. */
  portsFor(ends: Ends): DestinationPorts {
    const key = keyOf(ends);
    let endpoint = this.#all.get(key);
    if (endpoint === undefined) {
      endpoint = { ports: new DestinationPorts(this.#reservationsFor(ends.source)), users: [] };
      this.#all.set(key, endpoint);
    }
    return endpoint.ports;
  }

  add(destination: Destination): void {
    this.#all.get(keyOf(destination.spec))?.users.push(destination);
    const key = demuxKey(destination.address, destination.port);
    const users = this.#byUpstream.get(key);
    if (users === undefined) this.#byUpstream.set(key, [destination]);
    else users.push(destination);
  }

  /** True when it was the last one of its ends. */
  remove(destination: Destination): boolean {
    const demux = demuxKey(destination.address, destination.port);
    const all = this.#byUpstream.get(demux) ?? [];
    all.splice(all.indexOf(destination), 1);
    if (all.length === 0) this.#byUpstream.delete(demux);
    const key = keyOf(destination.spec);
    const users = this.#all.get(key)?.users ?? [];
    users.splice(users.indexOf(destination), 1);
    if (users.length > 0) return false;
    this.#all.delete(key);
    const source = this.#sources.get(destination.spec.source ?? "");
    if (source !== undefined) source.endpoints -= 1;
    return true;
  }

  /** The pools of these ends. */
  users(ends: Ends): readonly Destination[] {
    return this.#all.get(keyOf(ends))?.users ?? [];
  }

  /** The entry that a segment is for, in any state but resting. */
  entryFor(from: Uint8Array, to: Uint8Array, { sport, dport }: TcpSegment): LiveEntry | undefined {
    for (const destination of this.#byUpstream.get(demuxKey(from, sport)) ?? []) {
      const entry = destination.entryAt(dport);
      if (entry !== undefined && this.#table.isFrom(entry.index, to)) return entry;
    }
    return undefined;
  }

  /** Closes the ports of other addresses. */
  close(): void {
    for (const { reservations } of this.#sources.values()) reservations.close();
  }

  #reservationsFor(source: string | undefined): Reservations {
    if (source === undefined) return this.#own;
    const address = parseAddress(source);
    if (address === undefined) throw new Error(`not an address: ${source}`);
    // The last ports of some rest for a while after their endpoints are gone.
    for (const [key, { reservations, endpoints }] of this.#sources) {
      if (endpoints === 0 && reservations.open === 0) this.#sources.delete(key);
    }
    const known = this.#sources.get(source);
    if (known !== undefined) {
      known.endpoints += 1;
      return known.reservations;
    }
    const reservations = this.#reservationsOf(address);
    this.#sources.set(source, { reservations, endpoints: 1 });
    return reservations;
  }
}

function keyOf({ server, source }: Ends): string {
  return source === undefined ? formatEndpoint(server) : `${formatEndpoint(server)} from ${source}`;
}

/** A map key for a source address and port: a number for IPv4, text for IPv6. */
function demuxKey(address: Uint8Array, port: number): string | number {
  if (address.length !== 4) return `[${formatAddress(address)}]#${port}`;
  const [a = 0, b = 0, c = 0, d = 0] = address;
  return (((a << 24) | (b << 16) | (c << 8) | d) >>> 0) * 0x10000 + port;
}
