/** Load through accelproxy in a lab, for the end-to-end tests and soaks of latency: what was seen, as numbers. */
import type { NamedTarget } from "../../bench/load/generator.ts";
import { type Summary, summarize } from "../../bench/load/percentiles.ts";
import { runLoadOn, startOrigin } from "../../bench/load/processes.ts";
import type { ProxyProcess, World } from "./world.ts";

const ORIGIN_PORT = 8080;
export type Family = 4 | 6;

/** Of the first bytes, in ms from when their requests were due. */
export interface Traffic {
  readonly firstByteMs: Summary;
  /** How late requests were sent: what of the above is this machine's noise. */
  readonly lateMs: Summary;
  readonly errors: readonly string[];
  /** Share of sessions that took a half-open connection. */
  readonly hitRate: number;
  readonly hits: number;
  readonly misses: number;
  readonly replays: number;
}

/** A proxy in front of an origin on the far host: listeners v4 and v6, each with a pool of its own, filled. */
export async function startTrafficProxy(world: World): Promise<ProxyProcess> {
  const proxy = await world.proxy(`
listeners:
  - { name: v4, bind: "127.0.0.1:0", upstream: v4 }
  - { name: v6, bind: "[::1]:0", upstream: v6 }
upstreams:
  v4: { servers: [{ address: "${world.far.address(4)}:${ORIGIN_PORT}" }] }
  v6: { servers: [{ address: "[${world.far.address(6)}]:${ORIGIN_PORT}" }] }`);
  await proxy.ready();
  return proxy;
}

export async function startTrafficOrigin(world: World): Promise<void> {
  await startOrigin(world.far, ORIGIN_PORT);
}

/** Sends requests to both listeners in turn, unmeasured: the code of a fresh proxy is compiled, its pools learn. */
export async function warmUpTraffic(world: World, proxy: ProxyProcess): Promise<void> {
  const targets = [targetOf(proxy, 4), targetOf(proxy, 6)];
  const options = { targets, rate: 80, durationMs: 1_500, size: 100, seed: 3, timeoutMs: 10_000 };
  await runLoadOn(world.near, options);
}

/** Fresh connections through the proxy at Poisson times, `rate` a second, each for a response of 100 bytes. */
export async function measureTraffic(
  world: World,
  proxy: ProxyProcess,
  { family, rate, durationMs, seed }: { family: Family; rate: number; durationMs: number; seed: number },
): Promise<Traffic> {
  const target = targetOf(proxy, family);
  const before = await poolOf(proxy, target.name);
  const options = { targets: [target], rate, durationMs, size: 100, seed, timeoutMs: 10_000 };
  const samples = (await runLoadOn(world.near, options)).samples[target.name] ?? [];
  const after = await poolOf(proxy, target.name);
  const hits = after.hits - before.hits;
  return {
    firstByteMs: summarize(samples.flatMap(({ firstByteMs }) => firstByteMs ?? [])),
    lateMs: summarize(samples.map(({ lateMs }) => lateMs)),
    errors: samples.flatMap(({ error }) => error ?? []),
    hitRate: hits / samples.length,
    hits,
    misses: after.misses - before.misses,
    replays: after.replays - before.replays,
  };
}

function targetOf(proxy: ProxyProcess, family: Family): NamedTarget {
  const name = `v${family}`;
  return { name, host: family === 4 ? "127.0.0.1" : "::1", port: proxy.port(name) };
}

async function poolOf(proxy: ProxyProcess, upstream: string) {
  const pool = (await proxy.status()).pools.find((candidate) => candidate.upstream === upstream);
  if (!pool) throw new Error(`no pool of upstream ${upstream}`);
  return pool;
}
