// Goal: a peer that is not here is a skipped row, not a failure; a context leaves no folder. Method: two made-up peers.
import { existsSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BenchContext } from "../../bench/context.ts";
import type { Peer } from "../../bench/peers/peer.ts";

const peer = (name: string, why: string | undefined): Peer => ({
  name,
  missing: () => why,
  version: () => "1.2",
  start: () => Promise.reject(new Error("not started in this test")),
});

const context = suite("benchmark context");
context(
  "given a peer that is missing, then it is skipped once with its reason and the rest is there",
  async () => {
    await using bench = await BenchContext.create(true);
    bench.say = () => {};
    const peers = [peer("here", undefined), peer("gone", "gone is not installed")];
    for (let times = 0; times < 2; times++) {
      const names = bench.available(peers).map(({ name }) => name);
      assert.equal(names, ["here"]);
    }
    assert.equal(bench.skipped, [{ what: "gone", why: "gone is not installed" }]);
    assert.equal(bench.peers, { here: "1.2" });
  },
);
context("given its end, then its folder is gone", async () => {
  const bench = await BenchContext.create(true);
  assert.ok(existsSync(bench.folder));
  await bench.close();
  assert.not.ok(existsSync(bench.folder));
});
context.run();
