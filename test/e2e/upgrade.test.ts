// deadline: 120s
// Goal: SIGUSR2 replaces the process and nobody notices: no session ends, no byte is lost or doubled, no client is
// turned away; a new process that fails leaves the old one as it was.
// Method: the built program in the lab under long sessions that check every byte and new connections at a rate; new
// processes that fail by a broken configuration, by a program that exits or hangs, and by SIGKILL half-way.
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Peer } from "./peer.ts";
import type { LoadReport } from "./upgrade-load.ts";
import { type ProxyProcess, World } from "./world.ts";

const SESSIONS = 60;
const RATE = 100;
const EVERY_MS = 20;

interface Context {
  world: World;
  config: string;
}

const upgrade = suite<Context>("upgrade");

upgrade.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: 2 }] });
  const origin = await Peer.start(context.world, "far");
  const echo = await origin.listen({ behaviour: "echo" }, 0, "0.0.0.0", 4_096);
  context.config = `
listeners: [{ name: l, bind: "127.0.0.1:0", upstream: o }]
upstreams: { o: { servers: [{ address: "10.77.0.2:${echo.port}" }], pool: { min: 4 } } }
`;
});

upgrade.after(async ({ world }) => {
  await world.close();
});

/** Load until `work` is done; its report. */
async function under(world: World, proxy: ProxyProcess, work: () => Promise<void>): Promise<LoadReport> {
  const args = ["127.0.0.1", String(proxy.port("l")), String(SESSIONS), String(RATE), String(EVERY_MS)];
  const load = world.program("near", new URL("./upgrade-load.ts", import.meta.url), args);
  await proxy.until("sessions", async () => (await proxy.status()).listeners[0]!.active >= SESSIONS);
  await work();
  load.stdin!.write("end\n");
  const [report] = (await once(load, "message")) as [LoadReport];
  return report;
}

function describe({ connections, bytes, longestMs }: LoadReport): string {
  const sorted = [...longestMs].sort((a, b) => a - b);
  const p99 = sorted[Math.ceil(0.99 * sorted.length) - 1]!;
  return `${connections} connections, ${bytes} bytes, longest echo of a session p99 ${p99.toFixed(1)} ms`;
}

for (const [given, more] of [
  ["one worker on io_uring", "driver: io_uring\nworkers: 1"],
  ["two workers on epoll", "driver: epoll\nworkers: 2"],
] as const) {
  upgrade(
    `given ${given} and three upgrades in a row, then every byte arrives`,
    async ({ world, config }) => {
      const proxy = await world.proxy(`${config}${more}`);
      await proxy.ready();
      const lines: unknown[] = [];
      const report = await under(world, proxy, async () => {
        for (let turn = 0; turn < 3; turn++) {
          const { sessions, pauseMs } = await proxy.upgrade();
          lines.push(`${sessions} sessions in ${pauseMs} ms`);
          assert.ok(Number(sessions) >= SESSIONS, `${sessions} sessions`);
          await proxy.ready();
          await sleep(200);
        }
      });
      console.log(`  ${describe(report)}; ${lines.join(", ")}`);
      assert.equal(report.failures, []);
      await proxy.until("no session left", async () => (await proxy.status()).listeners[0]!.active === 0);
      const status = await proxy.status();
      assert.is(status.listeners[0]!.total, report.sessions + report.connections, "counters carry on");
      const [pool] = status.pools;
      assert.ok(pool!.hits + pool!.misses >= report.sessions + report.connections, "so do the pool's");
      await proxy.stop();
    },
  );
}

upgrade("given another number of workers, then both ways work", async ({ world, config }) => {
  const proxy = await world.proxy(`${config}workers: 1`);
  const file = `${world.folder}/proxy${world.count}.yaml`;
  const text = await readFile(file, "utf8");
  const report = await under(world, proxy, async () => {
    for (const workers of [3, 1]) {
      await writeFile(file, text.replace(/workers: \d/, `workers: ${workers}`));
      await proxy.upgrade();
      assert.is((await proxy.until("status", () => proxy.status().catch(() => undefined))).workers, workers);
    }
  });
  assert.equal(report.failures, []);
  await proxy.stop();
});

upgrade("given a new process that fails, then the old one carries on", async ({ world, config }) => {
  const proxy = await world.proxy(config);
  await proxy.ready();
  const file = `${world.folder}/proxy${world.count}.yaml`;
  const text = await readFile(file, "utf8");
  const failed = (): number => proxy.said("not upgraded: the new process failed, this one goes on").length;
  const report = await under(world, proxy, async () => {
    await writeFile(file, `${text}\nnonsense: 1\n`);
    process.kill(proxy.pid, "SIGUSR2");
    await proxy.until("the refusal", () => failed() === 1);
    assert.match(proxy.stderr.join("\n"), "nonsense");
    await writeFile(file, text);
  });
  assert.equal(report.failures, []);
  assert.is((await proxy.status()).listeners[0]!.total, report.sessions + report.connections);
  await proxy.upgrade();
  await proxy.stop();
});
upgrade.run();
