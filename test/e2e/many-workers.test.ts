// drivers: io_uring, epoll
// Goal: eight workers share the half-opens of a pool and the limits of a listener without ever using one twice, and the
// kernel gives each its part of the clients.
// Method: the peers of the engine soak, which check every byte and count every request, against a pool that is smaller
// than what arrives, so that workers race for its entries; which worker ran is told by its thread's wake-ups.
import { readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type ProxyProcess, World } from "./world.ts";

const WORKERS = 8;
const RATE = 1_200;
const SECONDS = 6;
/** What two workers' shares of some hundred clients differ by, and much more. */
const SHARE_MIN = 0.25;

interface Counts {
  readonly started: number;
  readonly problems: number;
  readonly done?: readonly string[];
}

/** How often each thread of the process went to sleep by itself, most often first. */
function wakeUps({ child }: ProxyProcess): number[] {
  const folder = `/proc/${child.pid}/task`;
  const counts = readdirSync(folder).map((thread) => {
    const status = readFileSync(`${folder}/${thread}/status`, "latin1");
    return Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)?.[1]);
  });
  return counts.sort((a, b) => b - a);
}

const workers = suite<{ world: World }>("many workers");
workers.before(async (context) => {
  context.world = await World.create({ hosts: ["box"] });
  context.world.lab.host("box").sysctl({ "net.ipv4.ip_local_port_range": "10240 65535" });
});
workers.after(async ({ world }) => {
  await world.close();
});

workers(
  `given ${WORKERS} workers and a small pool, then nothing is lost, doubled or taken twice`,
  async ({ world }) => {
    const script = new URL("../soak/engine-peers.ts", import.meta.url);
    const peers = world.program("box", script, [RATE, SECONDS, 1].map(String));
    const lines = createInterface({ input: peers.stdout! })[Symbol.asyncIterator]();
    const { port } = JSON.parse((await lines.next()).value as string) as { port: number };
    const proxy = await world.proxy(
      `
listeners: [{ name: web, bind: "0.0.0.0:0", upstream: peers, maxConnections: 24 }]
upstreams: { peers: { servers: [{ address: "127.0.0.1:${port}" }], pool: { min: 4, max: 12, maxSynRate: 2000 } } }
workers: ${WORKERS}`,
      { host: "box" },
    );
    await proxy.ready();
    const before = wakeUps(proxy);
    peers.stdin!.write(`${proxy.port("web")}\n`);
    let counts: Counts;
    do counts = JSON.parse((await lines.next()).value as string) as Counts;
    while (counts.done === undefined);
    assert.equal(counts.done, []);
    assert.is(counts.problems, 0);
    assert.ok(counts.started > (RATE * SECONDS) / 2);
    const [pool] = (await proxy.status()).pools;
    console.log(
      `  ${counts.started} sessions, ${pool?.hits} accelerated, ${pool?.misses} found the pool empty`,
    );
    assert.ok(pool!.hits > counts.started / 10 && pool!.misses > 0);
    // The keeper's thread and the workers' wake up most often, all others hardly ever.
    const busiest = wakeUps(proxy).slice(0, WORKERS + 1);
    console.log(`  wake-ups of the busiest threads ${busiest.join(" ")}, before ${before[0]} at most`);
    const [least = 0, most = 1] = [busiest.at(-1), busiest[1]];
    assert.ok(least >= SHARE_MIN * most, `${busiest}`);
    await proxy.until("nobody left", async () => (await proxy.status()).listeners[0]?.active === 0);
    assert.is(await proxy.stop(), 0);
  },
);
workers.run();
