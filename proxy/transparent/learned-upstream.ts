import type { Upstream } from "../../config/schema.ts";
import { ServerState } from "../balance/server-state.ts";
import type { Visit } from "../engine/messages.ts";
import { PLAIN_HTTP } from "../http/messages.ts";
import type { ServerStatus, UpstreamStatus } from "../status.ts";
import { LiveUpstream, type NamedPool, type UpstreamsOptions } from "../upstreams.ts";
import { LearnedPools } from "./learned-pools.ts";

/** The upstream of transparent listeners, whose servers are those that clients ask for. */
export class LearnedUpstream {
  readonly config: Upstream;
  readonly #options: UpstreamsOptions;
  /** Of no use to servers that are not balanced. */
  readonly #state = new ServerState().buffer;
  readonly #pools: LearnedPools;

  constructor(config: Upstream, options: UpstreamsOptions) {
    this.config = config;
    this.#options = options;
    const { registry, onError } = options;
    this.#pools = new LearnedPools(config, { registry, onError, onChange: () => this.publish() });
  }

  /** There is nothing to wait for. */
  async prepare(): Promise<void> {}

  get status(): UpstreamStatus {
    const { name, balance } = this.config;
    return { name, balance, queued: 0, refused: 0 };
  }

  /** Those with a pool are among the pools. */
  get servers(): readonly ServerStatus[] {
    return [];
  }

  get pools(): readonly NamedPool[] {
    return this.#pools.named;
  }

  /** Tells the workers of it as it is. */
  publish(): void {
    const { name, balance: policy, connectTimeoutMs, proxyProtocol, sourceAddress } = this.config;
    const { shares } = this.#pools;
    const isOfClients = sourceAddress === "client";
    const servers = shares.map((pool) => ({
      ...{ endpoint: pool.server, weight: 1, maxConnections: 0 },
      pool,
      state: this.#state,
    }));
    this.#options.publish({
      ...{ name, policy, connectTimeoutMs, maxQueue: 0, proxyProtocol },
      ...(isOfClients ? { servers: [], clientPools: shares } : { servers }),
      line: this.#options.states.line(name),
      http: PLAIN_HTTP,
      isLearned: true,
    });
  }

  /** A client asked for a destination that has no pool. */
  visited(visit: Visit): void {
    this.#pools.visited(visit);
  }

  /** Lets the pools go. */
  stop(): Promise<void> {
    return this.#pools.stop();
  }
}

/** An upstream with the servers of the configuration, or without any those that clients ask for. */
export function newUpstream(config: Upstream, options: UpstreamsOptions): LiveUpstream | LearnedUpstream {
  return config.servers.length === 0
    ? new LearnedUpstream(config, options)
    : new LiveUpstream(config, options);
}
