// Goal: 200 sessions streaming both ways are put away and restored 20 times in a row: none fails, every byte arrives once,
// and no rule is left.
// Method: as test/e2e/checkpoint.test.ts.

import { setTimeout as sleep } from "node:timers/promises";
import * as assert from "uvu/assert";
import { checkpoint, createCheckpointWorld, restore, ruleset } from "../e2e/checkpoint-cases.ts";
import { describe, under } from "../e2e/upgrade-cases.ts";

const LOAD = { sessions: 200, rate: 0, everyMs: 10 };
const TURNS = 20;
const PAUSE_MAX_MS = 500;

const context = await createCheckpointWorld();
const { world, config, dir } = context;
try {
  let proxy = await world.proxy(config);
  const report = await under(world, proxy, LOAD, async () => {
    for (let turn = 0; turn < TURNS; turn++) {
      await sleep(Math.random() * PAUSE_MAX_MS);
      const { code, stdout, stderr } = await checkpoint(world, proxy, dir);
      assert.is(code, 0, stderr);
      assert.match(stdout, new RegExp(`^${LOAD.sessions} sessions`));
      assert.is(await proxy.ended(), 0);
      proxy = await restore(context);
      assert.is(await ruleset(world), "");
    }
  });
  console.log(`${TURNS} checkpoints; ${describe(report)}`);
  assert.equal(report.failures, []);
  await proxy.stop();
} finally {
  await world.close();
}
