/**
 * What replay.test.ts and the soak of the same name share: an upstream that forgets half-opens, upstreams that
 * end a connection right after they read from it while the network loses the news, and the counting of both.
 */
import type { FilterSpec, LinkSettings } from "../../bench/lab/lab.ts";
import type { PoolStatus } from "../../proxy/status.ts";
import { type Outcome, Peer, type PeerServer, type Requests, type ServerKind } from "./peer.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 40;
const POOL_MIN = 48;
const POOL = `pool: { min: ${POOL_MIN}, max: 96, maxSynRate: 2000 }`;

/** An upstream that reads a request, acts, and whose news of it suffers on the way. */
interface AdverseCase {
  readonly name: string;
  readonly act: "close" | "reset";
  /** Before it acts, ms. */
  readonly afterMs?: number;
  readonly secondAfterMs?: number;
  readonly filter?: FilterSpec;
  readonly link?: LinkSettings;
}

export const ADVERSE_CASES: readonly AdverseCase[] = [
  {
    name: "resets, and its RST is lost",
    act: "reset",
    filter: { rules: [{ name: "RST", action: "drop", from: "far", flags: ["RA", "A"] }] },
  },
  {
    name: "resets, and its RST comes after that to the retransmission",
    act: "reset",
    filter: { rules: [{ name: "RST", action: { delayMs: 1_500 }, from: "far", flags: ["RA", "A"] }] },
  },
  {
    name: "resets, with a second segment on the way and its RST lost",
    act: "reset",
    secondAfterMs: 5,
    filter: { rules: [{ name: "RST", action: "drop", from: "far", flags: ["RA", "A"] }] },
  },
  {
    name: "closes, with a second segment on the way and its FIN and ACKs lost",
    act: "close",
    secondAfterMs: 5,
    filter: { rules: [{ name: "FIN", action: "drop", from: "far", flags: ["FA", "A"] }] },
  },
  {
    name: "closes, with its FIN lost",
    act: "close",
    filter: { rules: [{ name: "FIN", action: "drop", from: "far", flags: ["FA", "A"], limit: 200 }] },
  },
  {
    name: "resets over a line that loses and reorders",
    act: "reset",
    secondAfterMs: 15,
    link: { loss: 0.1, reorder: 0.2, reorderMs: 30, seed: 11 },
  },
  {
    name: "closes over a line that loses and reorders",
    act: "close",
    afterMs: 3,
    secondAfterMs: 15,
    link: { loss: 0.1, reorder: 0.2, reorderMs: 30, seed: 12 },
  },
];

/** Upstreams that can be made to forget: one that counts requests, one for longer talks. */
const FORGETFUL = {
  counter: { behaviour: "count", act: "answer" },
  talker: { behaviour: "echo" },
  greeter: { behaviour: "greet", text: "220 ready" },
} as const satisfies Record<string, ServerKind>;
type Forgetful = keyof typeof FORGETFUL;

/** The upstreams, the proxy in front of them and a client, in a lab. */
export class ReplayWorld {
  readonly world: World;
  readonly proxy: ProxyProcess;
  readonly client: Peer;
  readonly origin: Peer;
  readonly #forgetful: Map<Forgetful, PeerServer>;
  #nextId = 1;

  private constructor(parts: {
    world: World;
    proxy: ProxyProcess;
    client: Peer;
    origin: Peer;
    forgetful: Map<Forgetful, PeerServer>;
  }) {
    this.world = parts.world;
    this.proxy = parts.proxy;
    this.client = parts.client;
    this.origin = parts.origin;
    this.#forgetful = parts.forgetful;
  }

  /** `prefix` is put in front of the proxy's command. */
  static async create(prefix: readonly string[] = []): Promise<ReplayWorld> {
    const world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
    const client = await Peer.start(world, "near");
    const origin = await Peer.start(world, "far");
    const forgetful = new Map<Forgetful, PeerServer>();
    const upstreams: [name: string, port: number][] = [];
    for (const name of Object.keys(FORGETFUL) as Forgetful[]) {
      const server = await origin.listen(FORGETFUL[name]);
      forgetful.set(name, server);
      upstreams.push([name, server.port]);
    }
    for (const [index, { act, afterMs }] of ADVERSE_CASES.entries()) {
      const kind = { behaviour: "count", act, ...(afterMs !== undefined && { afterMs }) } as const;
      upstreams.push([`case${index}`, (await origin.listen(kind)).port]);
    }
    const config = `
listeners:
${upstreams.map(([name]) => `  - { name: ${name}, bind: "127.0.0.1:0", upstream: ${name}, takeAfter: ${takeAfter(name)} }`).join("\n")}
upstreams:
${upstreams.map(([name, port]) => `  ${name}: { servers: [{ address: "10.77.0.2:${port}" }], ${POOL} }`).join("\n")}
`;
    const proxy = await world.proxy(config, { prefix });
    await proxy.ready();
    return new ReplayWorld({ world, proxy, client, origin, forgetful });
  }

  /** Has an upstream forget every half-open, as a listener does that is closed. The pool notices at its next SYN. */
  async forget(name: Forgetful): Promise<void> {
    const server = this.#forgetful.get(name)!;
    await server.close();
    this.#forgetful.set(name, await this.origin.listen(FORGETFUL[name], server.port));
  }

  /** Sends requests, all at once unless told, to the upstream of this name. */
  requests(name: string, count: number, more: Partial<Requests> = {}): Promise<Outcome[]> {
    const first = this.#nextId;
    this.#nextId += count;
    const port = this.proxy.port(name);
    return this.client.requests({
      host: "127.0.0.1",
      port,
      first,
      count,
      concurrency: count,
      limitMs: 5_000,
      ...more,
    });
  }

  /** Sends requests to the upstream of a case while its filter and its line are in place. */
  async adverse(index: number, count: number, more: Partial<Requests> = {}): Promise<Outcome[]> {
    const { filter, link: settings, secondAfterMs } = ADVERSE_CASES[index]!;
    const link = this.world.lab.link();
    await link.set(settings ?? {});
    if (filter !== undefined) await link.setFilter(filter);
    const outcomes = await this.requests(`case${index}`, count, {
      ...(secondAfterMs !== undefined && { secondAfterMs }),
      ...more,
    });
    await link.clearFilter();
    await link.set({ loss: 0, reorder: 0 });
    return outcomes;
  }

  /** Waits until the pool of an upstream has noticed what it lost, and is full again. */
  async refilled(upstream: string): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 900));
    await this.proxy.until("pool filled again", async () => (await this.pool(upstream)).halfOpen >= POOL_MIN);
  }

  async pool(upstream: string): Promise<PoolStatus> {
    const found = (await this.proxy.status()).pools.find((pool) => pool.upstream === upstream);
    if (found === undefined) throw new Error(`no pool of ${upstream}`);
    return found;
  }
}

/**
 * What a client says after takeAfter, when a raw ACK has completed the handshake, is never replayed: on busy
 * processors 10 ms may pass between a client's connection and its first bytes, so those that speak have longer.
 */
function takeAfter(name: string): string {
  return name === "greeter" ? "10ms" : "1s";
}

/** How many requests ended in which way, for a message. */
export function tally(outcomes: readonly Outcome[]): string {
  const counts = new Map<string, number>();
  for (const { end } of outcomes) counts.set(end, (counts.get(end) ?? 0) + 1);
  return [...counts].map(([end, count]) => `${count} ${end}`).join(", ");
}
