/** Pools left idle and used at random moments, against servers that differ in how often they repeat a SYN-ACK. */
import { setTimeout as sleep } from "node:timers/promises";
import type { LinkSettings } from "../../bench/lab/lab.ts";
import type { PoolStatus } from "../../proxy/status.ts";
import { LineClient, serve } from "./lines.ts";
import { type ProxyProcess, World } from "./world.ts";

/** net.ipv4.tcp_synack_retries of the servers, each on a host of its own. */
export const SYNACK_RETRIES = [0, 1, 2, 5] as const;

export interface LivenessOptions {
  readonly durationMs: number;
  /** The next use comes after a random time up to this. */
  readonly gapMsMax: number;
  readonly link?: LinkSettings;
}

export interface Liveness {
  readonly retries: number;
  readonly uses: number;
  readonly errors: readonly string[];
  readonly firstByteMs: readonly number[];
  readonly pool: PoolStatus;
  readonly refreshed: number;
}

/** One near host, a server host per value of SYNACK_RETRIES, RTT 20 ms, and a proxy with a pool for each. */
export class LivenessWorld implements AsyncDisposable {
  readonly world: World;
  readonly #proxy: ProxyProcess;
  readonly #client: LineClient;

  private constructor(world: World, proxy: ProxyProcess, client: LineClient) {
    this.world = world;
    this.#proxy = proxy;
    this.#client = client;
  }

  /** `prefix` is put in front of the proxy's command. */
  static async create(prefix: readonly string[] = []): Promise<LivenessWorld> {
    const hosts = SYNACK_RETRIES.map((retries) => `r${retries}`);
    const links = hosts.map((host) => ({ between: ["near", host] as const, rttMs: 20 }));
    const world = await World.create({ hosts: ["near", ...hosts], links });
    for (const [index, host] of hosts.entries()) {
      world.lab.host(host).sysctl({ "net.ipv4.tcp_synack_retries": SYNACK_RETRIES[index]! });
      await serve(world, host, [{ port: 8080 }]);
    }
    const listeners = hosts.map((host) => `  - { name: ${host}, bind: "127.0.0.1:0", upstream: ${host} }`);
    const upstreams = hosts.map(
      (host) => `  ${host}: { servers: [{ address: "${world.lab.host(host).address()}:8080" }] }`,
    );
    const config = ["listeners:", ...listeners, "upstreams:", ...upstreams].join("\n");
    const proxy = await world.proxy(config, { prefix });
    await proxy.ready();
    return new LivenessWorld(world, proxy, await LineClient.on(world, "near"));
  }

  /** Uses every pool at random moments; the links keep the settings given. Counters are of this run alone. */
  async run({ durationMs, gapMsMax, link = {} }: LivenessOptions): Promise<Liveness[]> {
    for (const retries of SYNACK_RETRIES) await this.world.lab.link("near", `r${retries}`).set(link);
    const before = await this.#counters();
    const found = await Promise.all(
      SYNACK_RETRIES.map((retries) => this.#use(retries, durationMs, gapMsMax)),
    );
    await sleep(1_000);
    const after = await this.#counters();
    return found.map((use, index) => {
      const [from, to] = [before[index]!, after[index]!];
      const difference = (name: "hits" | "misses" | "replays" | "tainted" | "vanished" | "refused") =>
        to.pool[name] - from.pool[name];
      const pool = {
        ...to.pool,
        hits: difference("hits"),
        misses: difference("misses"),
        replays: difference("replays"),
        tainted: difference("tainted"),
        vanished: difference("vanished"),
        refused: difference("refused"),
      };
      return { ...use, pool, refreshed: to.refreshed - from.refreshed };
    });
  }

  async close(): Promise<void> {
    await this.#proxy.stop();
    await this.world.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #use(retries: number, durationMs: number, gapMsMax: number) {
    const endsAt = performance.now() + durationMs;
    const errors: string[] = [];
    const firstByteMs: number[] = [];
    let uses = 0;
    for (;;) {
      await sleep(Math.random() * gapMsMax);
      if (performance.now() > endsAt) return { retries, uses, errors, firstByteMs };
      uses += 1;
      const outcome = await this.#client.request("127.0.0.1", this.#proxy.port(`r${retries}`), {
        size: 10_000,
      });
      if (outcome.error === undefined) firstByteMs.push(outcome.firstByteMs);
      else errors.push(outcome.error);
    }
  }

  async #counters(): Promise<{ readonly pool: PoolStatus; readonly refreshed: number }[]> {
    const { pools } = await this.#proxy.status();
    const metrics = await this.#proxy.metrics();
    return SYNACK_RETRIES.map((retries) => {
      const pool = pools.find(({ upstream }) => upstream === `r${retries}`);
      if (!pool) throw new Error(`no pool of r${retries}`);
      const line = metrics
        .split("\n")
        .find((text) => text.includes(`upstream="r${retries}"`) && text.includes('event="refreshed"'));
      return { pool, refreshed: Number(line?.split(" ").at(-1)) };
    });
  }
}
