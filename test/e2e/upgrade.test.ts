// Goal: SIGUSR2 replaces the process and nobody notices: no session ends, no byte is lost or doubled, no client is
// turned away; a new process that fails leaves the old one as it was.
// Method: the built program in the lab under long sessions that check every byte and new connections at a rate; new
// processes that fail by a broken configuration, by a program that exits or hangs, and by SIGKILL half-way.
import { execFileSync } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { createUpgradeWorld, describe, heirOf, type UpgradeWorld, under } from "./upgrade-cases.ts";

const FAILED = "not upgraded: the new process failed, this one goes on";
const UPGRADED = "upgraded: a new process has everything";
const EARLY = "the proxy before this one ended early, going on with what came";
const LOAD = { sessions: 60, rate: 100, everyMs: 20 };

const upgrade = suite<UpgradeWorld>("upgrade");

upgrade.before(async (context) => {
  Object.assign(context, await createUpgradeWorld());
});

upgrade.after(async ({ world }) => {
  await world.close();
});

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
      const report = await under(world, proxy, LOAD, async () => {
        for (let turn = 0; turn < 3; turn++) {
          const { sessions, pauseMs } = await proxy.upgrade();
          lines.push(`${sessions} sessions in ${pauseMs} ms`);
          assert.ok(Number(sessions) >= LOAD.sessions, `${sessions} sessions`);
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
  const report = await under(world, proxy, LOAD, async () => {
    for (const workers of [3, 1]) {
      await writeFile(file, text.replace(/workers: \d/, `workers: ${workers}`));
      await proxy.upgrade();
      assert.is((await proxy.until("status", () => proxy.status().catch(() => undefined))).workers, workers);
    }
  });
  assert.equal(report.failures, []);
  await proxy.stop();
});

upgrade(
  "given new processes that fail before they have anything, then the old one is as it was",
  async ({ world, config }) => {
    const proxy = await world.proxy(config);
    await proxy.ready();
    const file = `${world.folder}/proxy${world.count}.yaml`;
    const text = await readFile(file, "utf8");
    const taken = `listeners: [{ name: new, bind: "127.0.0.1:${proxy.port("l")}", upstream: o }`;
    const failed = (): number => proxy.said(FAILED).length;
    const report = await under(world, proxy, LOAD, async () => {
      for (const [index, [what, broken]] of [
        ["a configuration with a mistake", `${text}\nnonsense: 1\n`],
        ["an address it cannot have", text.replace("listeners: [", `${taken}, `)],
      ].entries()) {
        await writeFile(file, broken!);
        process.kill(proxy.pid, "SIGUSR2");
        await proxy.until(what!, () => failed() === index + 1);
      }
      assert.match(proxy.stderr.join("\n"), "nonsense");
      // One that hangs, reading a pipe nobody writes to, until it is killed.
      await rm(file);
      execFileSync("mkfifo", [file]);
      process.kill(proxy.pid, "SIGUSR2");
      const heir = await proxy.until("a new process", () => heirOf(proxy.pid));
      await sleep(300);
      process.kill(heir, "SIGKILL");
      await proxy.until("its end", () => failed() === 3);
      await rm(file);
      await writeFile(file, text);
    });
    assert.equal(report.failures, []);
    assert.is((await proxy.status()).listeners[0]!.total, report.sessions + report.connections);
    await proxy.upgrade();
    await proxy.stop();
  },
);

upgrade(
  "given a new process killed half-way, then what it had not got goes on",
  async ({ world, config }) => {
    const proxy = await world.proxy(`${config}workers: 1`);
    await proxy.ready();
    const load = { sessions: 250, rate: 20, everyMs: 100 };
    const longSessions = async (): Promise<number> => (await proxy.status()).listeners[0]!.active;
    let delayMs = 8;
    const report = await under(world, proxy, load, async () => {
      for (let turn = 0; turn < 12 && (await longSessions()) >= load.sessions; turn++) {
        const [listening, failures] = [proxy.said("listening").length, proxy.said(FAILED).length];
        process.kill(proxy.pid, "SIGUSR2");
        const heir = await proxy.until("a new process", () => heirOf(proxy.pid));
        while (proxy.said("listening").length === listening) await new Promise(setImmediate);
        await sleep(delayMs);
        const isLate = proxy.said("took over").length > 0 && proxy.said(UPGRADED).at(-1)?.pid === heir;
        if (!isLate) process.kill(heir, "SIGKILL");
        await proxy.until("an outcome", () => isLate || proxy.said(FAILED).length > failures);
        if (isLate) proxy.pid = heir;
        delayMs = isLate ? delayMs / 2 : delayMs + 4;
        await sleep(300);
      }
    });
    const ended = report.failures.length;
    console.log(`  killed half-way: ${ended} of ${load.sessions} sessions ended`);
    assert.ok(ended > 0 && ended < load.sessions, `${ended} sessions ended`);
    await proxy.until("no session left", async () => (await longSessions()) === 0);
    await proxy.upgrade();
    await proxy.stop();
  },
);

upgrade("given the old process killed half-way, then the new one goes on with what came", async (context) => {
  const { world, config } = context;
  const proxy = await world.proxy(`${config}workers: 1`);
  await proxy.ready();
  const load = { sessions: 250, rate: 0, everyMs: 100 };
  const report = await under(world, proxy, load, async () => {
    for (let turn = 0; turn < 6 && proxy.said(EARLY).length === 0; turn++) {
      const listening = proxy.said("listening").length;
      const old = proxy.pid;
      process.kill(old, "SIGUSR2");
      proxy.pid = await proxy.until("a new process", () => heirOf(old));
      while (proxy.said("listening").length === listening) await new Promise(setImmediate);
      process.kill(old, "SIGKILL");
      await proxy.until("it goes on", () => proxy.said("started").length === turn + 2);
    }
    await sleep(300);
  });
  const [early] = proxy.said(EARLY);
  assert.ok(early !== undefined);
  console.log(`  ${early.sessions} of ${load.sessions} sessions had come`);
  assert.is(report.failures.length, load.sessions - Number(early.sessions));
  await proxy.until("no session left", async () => (await proxy.status()).listeners[0]!.active === 0);
  await proxy.stop();
});
upgrade.run();
