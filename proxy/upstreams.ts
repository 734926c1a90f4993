/**
 * The upstreams of the configuration as the main thread keeps them: names resolved, a pool per address, and
 * every engine worker told of each change.
 */
import type { Upstream } from "../config/schema.ts";
import { type Endpoint, formatEndpoint } from "../native/address.ts";
import type { PoolEntry, PoolRegistry } from "../pool/registry.ts";
import type { ServerShare, UpstreamShare } from "./engine/messages.ts";
import type { NameWatcher } from "./names.ts";
import type { PoolStatus } from "./status.ts";

type Spec = Parameters<PoolRegistry["hold"]>[0];

interface LiveServer {
  readonly share: ServerShare;
  readonly spec: Spec;
  readonly pool: PoolEntry | undefined;
}

/** A pool and the upstream and server it belongs to, for the status page. */
export interface NamedPool extends PoolEntry {
  readonly upstream: string;
  readonly server: string;
}

export interface UpstreamsOptions {
  readonly names: NameWatcher;
  /** Undefined: nothing is accelerated. */
  readonly registry: PoolRegistry | undefined;
  /** Tells every worker. */
  readonly publish: (share: UpstreamShare) => void;
  readonly onError: (error: unknown) => void;
}

/** One upstream. Changes are applied one after another, in the order they came. */
export class LiveUpstream {
  readonly config: Upstream;
  readonly #options: UpstreamsOptions;
  readonly #watches: (() => void)[] = [];
  readonly #addresses: (readonly Endpoint[])[];
  #servers: readonly LiveServer[] = [];
  #applying: Promise<void> = Promise.resolve();

  constructor(config: Upstream, options: UpstreamsOptions) {
    this.config = config;
    this.#options = options;
    this.#addresses = config.servers.map(() => []);
  }

  /** Resolves the names, starts the pools and tells the workers. Rejects as PoolRegistry.hold(). */
  async start(): Promise<void> {
    const { names } = this.#options;
    const found = await Promise.all(
      this.config.servers.map(async ({ address: { host, port } }) =>
        (await names.first(host)).map((address) => ({ address, port })),
      ),
    );
    found.forEach((endpoints, index) => {
      this.#addresses[index] = endpoints;
    });
    await this.#apply();
    for (const [index, { address }] of this.config.servers.entries()) {
      if (address.kind === "ip") continue;
      const watch = names.watch(address.host, address.port, (endpoints) => this.#onNames(index, endpoints));
      this.#watches.push(watch);
    }
  }

  get pools(): readonly NamedPool[] {
    return this.#servers.flatMap(({ pool, share }) =>
      pool ? [{ ...pool, upstream: this.config.name, server: formatEndpoint(share.endpoint) }] : [],
    );
  }

  /** Lets the pools go. The workers are told by whoever replaces or drops the upstream. */
  async stop(): Promise<void> {
    for (const unwatch of this.#watches) unwatch();
    await this.#applying.catch(() => {});
    await this.#letGo(this.#servers);
  }

  #onNames(index: number, endpoints: readonly Endpoint[]): void {
    this.#addresses[index] = endpoints;
    this.#applying = this.#applying.then(() => this.#apply()).catch(this.#options.onError);
  }

  async #apply(): Promise<void> {
    const before = this.#servers;
    const seen = new Set<string>();
    const servers: LiveServer[] = [];
    for (const [index, { weight }] of this.config.servers.entries()) {
      for (const endpoint of this.#addresses[index]!) {
        const key = formatEndpoint(endpoint);
        if (seen.has(key)) continue;
        seen.add(key);
        servers.push(await this.#server(endpoint, weight));
      }
    }
    this.#servers = servers;
    const { name, connectTimeoutMs } = this.config;
    this.#options.publish({ name, connectTimeoutMs, servers: servers.map(({ share }) => share) });
    await this.#letGo(before);
  }

  async #server(endpoint: Endpoint, weight: number): Promise<LiveServer> {
    const { min, max, maxSynRate, maxAgeMs } = this.config.pool;
    const spec: Spec = { upstream: this.config.name, server: endpoint, min, max, maxSynRate, maxAgeMs };
    const pool = await this.#options.registry?.hold(spec);
    return { share: { endpoint, weight, pool: pool?.share }, spec, pool };
  }

  async #letGo(servers: readonly LiveServer[]): Promise<void> {
    for (const { spec, pool } of servers) if (pool) await this.#options.registry?.letGo(spec);
  }
}

/** A pool as GET /status shows it. */
export function poolStatus({ block, upstream, server }: NamedPool): PoolStatus {
  return {
    upstream,
    server,
    halfOpen: block.get("halfOpen"),
    target: block.get("target"),
    rttMs: block.get("rttUs") / 1e3,
    cookies: block.get("cookies") === 1,
    paused: block.get("paused") === 1,
    hits: block.get("hits"),
    misses: block.get("misses"),
    replays: block.get("replays"),
    tainted: block.get("tainted"),
    vanished: block.get("vanished"),
    refused: block.get("refused"),
  };
}
