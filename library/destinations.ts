/**
 * Which servers the names and addresses of a pool or a connector stand for. Names are looked up as Node does it. A
 * server is found by connecting: where an ordinary connection arrived, half-opens are kept from then on, so that what
 * autoSelectFamily learnt about IPv6 holds for us too, and nothing is opened towards addresses that were never of use.
 */
import { type LookupAddress, lookup as systemLookup } from "node:dns";
import { isIP, type LookupFunction, type Socket } from "node:net";
import { LRUCache } from "lru-cache";
import { type Endpoint, familyOf, formatAddress, formatEndpoint, parseAddress } from "../native/address.ts";
import { accelerator, type Hold } from "./accelerator.ts";
import type { LeasedSocket } from "./leased-socket.ts";
import type { PoolStats, Server } from "./server.ts";
import { type PoolSettings, specOf } from "./settings.ts";

/** Where a connection shall go. */
export interface Target {
  readonly host: string;
  readonly port: number;
  /** 4, 6, or 0 for both. */
  readonly family?: number | undefined;
  readonly lookup?: LookupFunction | undefined;
}

export interface DestinationLimits {
  /** Servers at a time; the one used least recently goes first. */
  readonly max: number;
  /** How long a server is kept that nobody connects to, ms; 0: for ever. */
  readonly idleMs: number;
}

interface Kept {
  readonly hold: Promise<Hold | undefined>;
  server: Server | undefined;
}

export class Destinations {
  readonly #spec: ReturnType<typeof specOf>;
  readonly #kept: LRUCache<string, Kept>;
  readonly #releases = new Set<Promise<void>>();
  #isClosed = false;

  /** Throws as specOf(). */
  constructor(settings: PoolSettings, { max, idleMs }: DestinationLimits) {
    this.#spec = specOf(settings);
    this.#kept = new LRUCache({
      max,
      ttl: idleMs,
      ttlAutopurge: idleMs > 0,
      updateAgeOnGet: true,
      dispose: (kept) => this.#release(kept),
    });
  }

  /** The servers half-opens are kept for. */
  get servers(): readonly Server[] {
    return [...this.#kept.values()].flatMap(({ server }) => server ?? []);
  }

  get stats(): readonly PoolStats[] {
    return this.servers.map((server) => server.stats);
  }

  /** A connection ready for use, or undefined: connect in the ordinary way. Never rejects. */
  async take(target: Target, silenceMaxMs: number): Promise<LeasedSocket | undefined> {
    if (this.#isClosed || !accelerator.isReadyAt(target.port)) return undefined;
    for (const address of await firstAddresses(target)) {
      const endpoint = endpointOf(address, target.port);
      const server = endpoint && accelerator.find({ ...this.#spec, server: endpoint });
      const socket = server?.take(silenceMaxMs);
      if (endpoint === undefined || socket === undefined) continue;
      void this.keep(endpoint);
      return socket;
    }
    return undefined;
  }

  /** An ordinary connection arrived: half-opens are kept for its server from now on. */
  reached({ remoteAddress = "", remotePort = 0 }: Socket): void {
    const endpoint = endpointOf(remoteAddress, remotePort);
    if (endpoint !== undefined) void this.keep(endpoint);
  }

  /** Keeps half-opens for a server. Resolves once that has begun, or turned out to be impossible. */
  async keep(endpoint: Endpoint): Promise<void> {
    const key = formatEndpoint(endpoint);
    if (this.#isClosed || accelerator.isRefused || this.#kept.get(key) !== undefined) return;
    const hold = accelerator.hold({ ...this.#spec, server: endpoint });
    const kept: Kept = { hold, server: undefined };
    this.#kept.set(key, kept);
    kept.server = (await hold)?.server;
  }

  /** Keeps half-opens for the first address of a name. */
  async keepFirst(target: Target): Promise<void> {
    const [address = ""] = await firstAddresses(target);
    const endpoint = endpointOf(address, target.port);
    if (endpoint !== undefined) await this.keep(endpoint);
  }

  /** Gives up every half-open, unless another pool or connector shares it. Connections go on. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#kept.clear();
    await staying(Promise.all(this.#releases));
  }

  #release({ hold }: Kept): void {
    const released = hold
      .then((held) => held?.release())
      .finally(() => {
        this.#releases.delete(released);
      });
    this.#releases.add(released);
  }
}

/** The same, and the process stays until it is settled: nothing else of ours keeps it alive. */
export async function staying<T>(promise: Promise<T>): Promise<T> {
  const timer = setInterval(() => {}, 60_000);
  try {
    return await promise;
  } finally {
    clearInterval(timer);
  }
}

/** Undefined for what has no pool: an address with a zone, or none. */
function endpointOf(address: string, port: number): Endpoint | undefined {
  const bytes = parseAddress(address);
  return bytes && { address: formatAddress(bytes), port };
}

/**
 * The first address of each family, in the order of the lookup: those that an ordinary connect would try first. None when
 * the lookup fails: the ordinary connect will say so.
 */
function firstAddresses({ host, port: _, family = 0, lookup }: Target): Promise<readonly string[]> {
  if (isIP(host) !== 0) return Promise.resolve([host]);
  return new Promise((resolve) => {
    const done = (error: Error | null, found: string | LookupAddress[]): void => {
      if (error !== null) resolve([]);
      else if (typeof found === "string") resolve([found]);
      else {
        const addresses = found.map(({ address }) => address);
        resolve(
          addresses.filter(
            (address, index) =>
              addresses.findIndex((other) => familyOf(other) === familyOf(address)) === index,
          ),
        );
      }
    };
    (lookup ?? systemLookup)(host, { all: true, family }, done);
  });
}
