// Goal: SIGUSR2 under 500 sessions and 500 new connections a second, ten times in a row: no failed connection, every
// byte arrives once, and the pause of a session is at most 10 ms at the 99th percentile.
// Method: as test/e2e/upgrade.test.ts; pauses are the proxy's own, from the moment sessions are asked to leave the old
// process until they go on in the new one.
import * as assert from "uvu/assert";
import { createUpgradeWorld, describe, under } from "../e2e/upgrade-cases.ts";

const LOAD = { sessions: 500, rate: 500, everyMs: 200 };
const UPGRADES = 10;
const PAUSE_MAX_MS = 10;

const { world, config } = await createUpgradeWorld();
try {
  const proxy = await world.proxy(config);
  await proxy.ready();
  const pausesMs: number[] = [];
  const report = await under(world, proxy, LOAD, async () => {
    for (let turn = 0; turn < UPGRADES; turn++) {
      const { sessions, pauseMs } = await proxy.upgrade();
      pausesMs.push(Number(pauseMs));
      assert.ok(Number(sessions) >= LOAD.sessions, `${sessions} sessions`);
      await proxy.ready();
    }
  });
  console.log(`${UPGRADES} upgrades, pauses p99 ${pausesMs.join(", ")} ms; ${describe(report)}`);
  assert.equal(report.failures, []);
  const median = pausesMs.sort((a, b) => a - b)[UPGRADES >> 1]!;
  assert.ok(median <= PAUSE_MAX_MS, `median of the p99 pauses ${median} ms`);
  await proxy.stop();
} finally {
  await world.close();
}
