// Goal: equal specifications share a pool, one that nobody holds is kept a while and then given up politely.
// Method: pools of one half-open, too small for a canary; a keeper thread and a listener on the loopback of a
// namespace of our own, whose sockets ss(8) lists.
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Fd } from "../../native/fd.ts";
import { listenTcp, localEndpoint } from "../../native/net/tcp-socket.ts";
import { KeeperHandle } from "../../pool/keeper-handle.ts";
import { PoolRegistry } from "../../pool/registry.ts";

type Spec = Parameters<PoolRegistry["hold"]>[0];

const halfOpens = (): number =>
  spawnSync("ss", ["-tanH", "state", "syn-recv"], { encoding: "utf8" }).stdout.split("\n").length - 1;

/** Resolves once there are so many half-opens at the listener. */
async function until(count: number): Promise<void> {
  const endsAt = performance.now() + 3_000;
  while (halfOpens() !== count) {
    if (performance.now() > endsAt) throw new Error(`${halfOpens()} half-opens, not ${count}`);
    await sleep(10);
  }
}

interface Context {
  listener: Fd;
  keeper: KeeperHandle;
  registry: PoolRegistry;
  spec: Spec;
}

for (const hearing of ["raw", "bpf", "steered"] as const) {
  const registry = suite<Context>(`registry, ${hearing}`);

  registry.before(async (context) => {
    context.listener = listenTcp({ address: "127.0.0.1", port: 0 }, 64);
    const server = { address: "127.0.0.1", port: localEndpoint(context.listener.number).port };
    context.spec = { upstream: "o", server, min: 1, max: 1, maxSynRate: 200, maxAgeMs: 60_000 };
  });

  registry.before.each(async (context) => {
    const log = pino({ level: "silent" });
    const onCrash = (error: Error): never => {
      throw error;
    };
    context.keeper = await KeeperHandle.start("silent", log, onCrash, { hearing });
    context.registry = new PoolRegistry(context.keeper);
  });

  registry.after.each(async ({ keeper, registry: pools }) => {
    pools.close();
    await keeper.stop();
    await until(0);
  });

  registry.after(({ listener }) => {
    listener.close();
  });

  registry(
    "given equal specifications, then one pool, and its half-opens once",
    async ({ registry: pools, spec }) => {
      const [first, second] = await Promise.all([pools.hold(spec), pools.hold({ ...spec })]);
      assert.is(first.share.buffer, second.share.buffer);
      await until(1);
      await pools.letGo(spec);
      await sleep(50);
      assert.is(halfOpens(), 1);
    },
  );

  registry(
    "given other settings or another upstream, then pools of their own",
    async ({ registry: pools, spec }) => {
      const found = await Promise.all([
        pools.hold(spec),
        pools.hold({ ...spec, maxSynRate: 100 }),
        pools.hold({ ...spec, upstream: "other" }),
      ]);
      assert.is(new Set(found.map(({ share }) => share.id)).size, 3);
      await until(3);
    },
  );

  registry("given a pool let go, then it is revived as it was", async ({ registry: pools, spec }) => {
    const first = await pools.hold(spec);
    await until(1);
    await pools.letGo(spec);
    const second = await pools.hold(spec);
    assert.is(second.share.id, first.share.id);
    await sleep(50);
    assert.equal([first.block.get("opened"), halfOpens()], [1, 1]);
  });

  registry(
    "given a pool nobody wants and close(), then its half-opens are given up",
    async ({ registry: pools, spec }) => {
      await pools.hold(spec);
      await until(1);
      await pools.letGo(spec);
      assert.is(halfOpens(), 1);
      pools.close();
      await until(0);
      await pools.hold(spec);
      await until(1);
    },
  );

  registry(
    "given one that nobody held, then letting go changes nothing",
    async ({ registry: pools, spec }) => {
      await pools.letGo(spec);
      await pools.hold(spec);
      await until(1);
    },
  );

  registry.run();
}
