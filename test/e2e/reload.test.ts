// drivers: io_uring, epoll
// Goal: a reload refuses nobody and leaves nothing behind: no failed connection, no descriptor, thread, timer or
// half-open more than before. A short version of the soak of the same name.
// Method: the built program in the lab under clients of every listener, two configurations in turn that keep, change,
// rename, swap, widen, add and remove listeners and upstreams.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  assertNothingLeft,
  createReloadWorld,
  type ReloadWorld,
  reload,
  reloadUnderLoad,
} from "./reload-cases.ts";

const suiteOf = suite<ReloadWorld>("reload under load");

suiteOf.before(async (context) => {
  Object.assign(context, await createReloadWorld());
});

suiteOf.after(async ({ world }) => {
  await world.close();
});

suiteOf(
  "given 16 reloads of two configurations in turn, then nobody notices and nothing stays",
  async (context) => {
    const { failures, connections, before, after, half } = await reloadUnderLoad(
      context,
      { sessions: 12, rate: 120 },
      16,
    );
    console.log(`  ${connections} connections; ${JSON.stringify(after)}`);
    assert.equal(failures, []);
    assertNothingLeft(before, after);
    assert.is(half.there, half.here);
  },
);

suiteOf(
  "given an address somebody has, then the reload changes nothing and says so",
  async ({ world, configs }) => {
    const proxy = await world.proxy(configs[0]);
    const file = `${world.folder}/proxy${world.count}.yaml`;
    const before = await proxy.status();
    const taken = configs[1].replace("127.0.0.1:8003", "10.77.0.9:8003");
    const result = await reload(proxy, file, taken);
    assert.is(result.ok, false);
    assert.match(
      result.ok ? "" : result.problems.join(),
      "listener wide: 10.77.0.9:8003 is no address of this host",
    );
    const after = await proxy.status();
    assert.equal(
      after.listeners.map(({ name, address }) => [name, address]),
      before.listeners.map(({ name, address }) => [name, address]),
    );
    assert.equal(
      after.pools.map(({ upstream }) => upstream),
      before.pools.map(({ upstream }) => upstream),
    );
    assert.ok((await reload(proxy, file, configs[1])).ok, "the next one is done");
    await proxy.stop();
  },
);
suiteOf.run();
