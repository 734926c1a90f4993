/**
 * A destination that swallowed first flights is tried again: after its pause half-opens are kept and used once
 * more. While the firewall goes on forgetting, the next pause is longer; once it stopped, sessions are accelerated.
 * Takes about 75 s; exit 1 when the destination does not come back.
 *
 *   npm run soak -- black-hole
 */
import { Peer } from "../e2e/peer.ts";
import { World } from "../e2e/world.ts";

const PAUSED = "first data on half-opens vanishes, connecting in the ordinary way";
const BACK = "accelerating again after a pause";

const world = await World.create({ links: [{ between: ["near", "far"], rttMs: 20 }] });
const client = await Peer.start(world, "near");
const origin = await Peer.start(world, "far");
const server = await origin.listen({ behaviour: "count", act: "answer" });
const module = new URL("../e2e/black-hole-filter.ts", import.meta.url);
await world.lab
  .link()
  .setFilter({ module, export: "forgetful", options: { port: server.port, forgetMs: 300 } });
const proxy = await world.proxy(`
listeners: [{ name: web, bind: "127.0.0.1:0", upstream: origin }]
upstreams: { origin: { servers: [{ address: "10.77.0.2:${server.port}" }] } }
`);
await proxy.ready();

let next = 1;
const request = async (count: number): Promise<string> => {
  const first = next;
  next += count;
  const outcomes = await client.requests({
    host: "127.0.0.1",
    port: proxy.port("web"),
    first,
    count,
    concurrency: count,
    limitMs: 9_000,
  });
  return outcomes.map(({ end }) => end).join(" ");
};
const hits = async (): Promise<number> => (await proxy.status()).pools[0]?.hits ?? 0;
const pauses = (): number[] => proxy.said(PAUSED).map(({ pauseMs }) => Number(pauseMs));

for (const round of [1, 2]) {
  await new Promise((resolve) => setTimeout(resolve, 500));
  console.log(`round ${round}: ${await request(2)}, pauses ${pauses().join(", ")} ms`);
  await proxy.until("paused", () => pauses().length === round, 5_000);
  console.log(`paused: ${await request(5)}`);
  await proxy.until("back", () => proxy.said(BACK).length === round, 40_000);
}
await world.lab.link().clearFilter();
await proxy.ready();
await new Promise((resolve) => setTimeout(resolve, 500));
const before = await hits();
console.log(`firewall gone: ${await request(2)}, ${(await hits()) - before} accelerated`);
const accelerated = (await hits()) - before;
await world.close();
const right = accelerated === 2 && pauses()[1]! > pauses()[0]!;
console.log(right ? "no problem" : `PROBLEM: ${accelerated} accelerated, pauses ${pauses().join(", ")}`);
process.exitCode = right ? 0 : 1;
