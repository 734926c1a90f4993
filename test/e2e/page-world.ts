/** A proxy whose page has something to show: a pool that works, one whose server refuses, sessions of both kinds. */
import { runLoadOn, startOrigin } from "../../bench/load/processes.ts";
import type { ProxyProcess, World } from "./world.ts";

const ORIGIN_PORT = 8080;
/** Nobody listens there. */
const DEAD_PORT = 9;
/** Soon used up, so that some sessions connect in the ordinary way. */
const SMALL_POOL = "{ min: 1, max: 1, maxSynRate: 1 }";

export async function startPageProxy(world: World): Promise<ProxyProcess> {
  await startOrigin(world.far, ORIGIN_PORT);
  const far = world.far.address(4);
  return world.proxy(`
listeners:
  - { name: web, bind: "127.0.0.1:0", upstream: origin }
  - { name: reports, bind: "127.0.0.1:0", upstream: archive }
upstreams:
  origin: { servers: [{ address: "${far}:${ORIGIN_PORT}" }] }
  archive:
    servers: [{ address: "[${world.far.address(6)}]:${ORIGIN_PORT}" }, { address: "${far}:${DEAD_PORT}" }]
    pool: ${SMALL_POOL}`);
}

/** Fresh connections to both listeners at Poisson times. Resolves with how many there were. */
export async function loadPage(world: World, proxy: ProxyProcess, durationMs: number): Promise<number> {
  const targets = ["web", "reports"].map((name) => ({ name, host: "127.0.0.1", port: proxy.port(name) }));
  const options = { targets, rate: 30, durationMs, size: 2_000, seed: 5, timeoutMs: 10_000 };
  const { samples } = await runLoadOn(world.near, options);
  return Object.values(samples).reduce((sum, { length }) => sum + length, 0);
}
