/**
 * Where upstream connections come from when their server is to see the client's address: from that address, which is not
 * this host's. Nothing can be opened ahead for a client that is not known, so who comes for the first time is connected to
 * in the ordinary way, and the main thread hears of the visit (proxy/transparent/learned-pools.ts decides who gets a pool).
 */
import { formatAddress, formatEndpoint, parseAddress } from "../../native/address.ts";
import { nowMs } from "../../native/clock.ts";
import { SyscallError } from "../../native/errno.ts";
import { readEnd } from "../../native/repair/socket-reader.ts";
import type { Logger } from "../../pool/logger.ts";
import type { PoolShare } from "../../pool/pool-block.ts";
import { Seldom } from "../../pool/seldom.ts";
import type { Taker } from "../../pool/taker.ts";
import { WARNING_INTERVAL } from "./limits.ts";
import type { Visit } from "./messages.ts";
import type { Server, TakerFactory } from "./upstream.ts";

/** Whom a connection comes from. */
export interface Source {
  /** Undefined: this host's, as the route has it. */
  readonly address: Uint8Array | undefined;
  /** Half-opens from there, if there may be any. */
  readonly taker: Taker | undefined;
}

/** What of its engine it needs. */
export interface SourceServices {
  readonly log: Logger;
  onVisited(upstream: string, visit: Visit): void;
}

export class ClientSources {
  readonly #upstream: string;
  readonly #services: SourceServices;
  readonly #takers: ReadonlyMap<string, Taker>;
  readonly #families = new Seldom(WARNING_INTERVAL);

  /** Of an upstream with these pools. Those that it had before go on. */
  constructor(
    upstream: string,
    pools: readonly PoolShare[],
    takers: TakerFactory | undefined,
    services: SourceServices,
    before: ClientSources | undefined,
  ) {
    this.#upstream = upstream;
    this.#services = services;
    this.#takers = new Map(
      takers === undefined
        ? []
        : pools.map((pool) => [keyOf(pool), takers.again(pool, before?.takerOf(pool))]),
    );
  }

  takerOf(pool: PoolShare): Taker | undefined {
    return this.#takers.get(keyOf(pool));
  }

  /**
   * For the client of an accepted socket; undefined when its address is of another family than the server's, or it has reset its
   * connection. A session that is back from another engine is no visit, and its half-open is of the pool that there is.
   */
  of(server: Server, client: number, isBack: boolean): Source | undefined {
    const address = peerOf(client)?.address;
    if (address === undefined) return undefined;
    if (address.length !== parseAddress(server.endpoint.address)?.length) {
      this.#warnFamily(address, server);
      return undefined;
    }
    if (!server.isAccelerated && !isBack) return { address, taker: undefined };
    const source = formatAddress(address);
    const taker = this.#takers.get(keyOf({ server: server.endpoint, source }));
    if (taker === undefined && !isBack)
      this.#services.onVisited(this.#upstream, { destination: server.endpoint, client: source });
    return { address, taker };
  }

  #warnFamily(address: Uint8Array, server: Server): void {
    if (this.#families.due(nowMs()) === undefined) return;
    const fields = { upstream: this.#upstream, client: formatAddress(address), server: server.name };
    this.#services.log.warn(fields, "a server cannot see the address of a client of the other family");
  }
}

const keyOf = ({ server, source }: Pick<PoolShare, "server" | "source">): string =>
  `${formatEndpoint(server)} ${source}`;

/** The other end of an accepted socket; undefined once the client has reset its connection. */
export function peerOf(client: number): { readonly address: Uint8Array; readonly port: number } | undefined {
  try {
    return readEnd(client, "remote");
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    return undefined;
  }
}
