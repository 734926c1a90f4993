// Goal: 200 reloads under load, two configurations in turn: no failed connection, and not one descriptor, thread, timer
// or half-open more than before.
// Method: as test/e2e/reload.test.ts, with more of everything.
import * as assert from "uvu/assert";
import { assertNothingLeft, createReloadWorld, reloadUnderLoad } from "../e2e/reload-cases.ts";

const RELOADS = 200;
// Fewer connections than steered ports: beyond them each port rests with a descriptor of its own, for 61 s.
const LOAD = { sessions: 60, rate: 60 };

const given = await createReloadWorld();
try {
  const { failures, connections, before, after, half } = await reloadUnderLoad(given, LOAD, RELOADS);
  console.log(`${RELOADS} reloads, ${connections} connections, ${failures.length} failed`);
  console.log(`before ${JSON.stringify(before)}\nafter  ${JSON.stringify(after)}`);
  console.log(`half-opens: ${half.here} here, ${half.there} at the upstream`);
  assert.equal(failures, []);
  assertNothingLeft(before, after);
  assert.is(half.there, half.here);
} finally {
  await given.world.close();
}
