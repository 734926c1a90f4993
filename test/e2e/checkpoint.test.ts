// Goal: a proxy can be put away and come back, and no session ends: no byte is lost or doubled, in half-closed ones
// too. What fails leaves all sessions as they were, or puts an end to them that peers see; never a rule.
// Method: the built program in the lab under sessions that check every byte; directories that cannot be written,
// edited images, a port that is taken, a peer that resets meanwhile, SIGKILL at random moments of both halves.
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  type CheckpointWorld,
  checkpoint,
  createCheckpointWorld,
  hasImages,
  restore,
  ruleset,
} from "./checkpoint-cases.ts";
import { Peer } from "./peer.ts";
import { describe, under } from "./upgrade-cases.ts";
import type { ProxyProcess } from "./world.ts";

const LOAD = { sessions: 40, rate: 0, everyMs: 20 };
const TURNS = 2;

const away = suite<CheckpointWorld>("checkpoint");

away.before(async (context) => {
  Object.assign(context, await createCheckpointWorld());
});

away.after(async ({ world }) => {
  await world.close();
});

for (const driver of ["io_uring", "epoll"]) {
  away(`given two checkpoints in a row on ${driver}, then every byte arrives`, async (context) => {
    const { world, dir } = context;
    const config = `${context.config}driver: ${driver}`;
    let proxy = await world.proxy(config);
    const lines: string[] = [];
    const report = await under(world, proxy, LOAD, async () => {
      for (let turn = 0; turn < TURNS; turn++) {
        const { code, stdout, stderr } = await checkpoint(world, proxy, dir);
        assert.is(code, 0, stderr);
        assert.match(stdout, new RegExp(`^${LOAD.sessions} sessions in \\d+ ms: ${dir}/`));
        lines.push(stdout.slice(0, stdout.indexOf(":")));
        assert.is(await proxy.ended(), 0);
        assert.match(await ruleset(world), /goto away/);
        proxy = await restore({ ...context, config });
        assert.is(hasImages(dir), false);
        assert.is(await ruleset(world), "");
      }
    });
    console.log(`  ${describe(report)}; ${lines.join(", ")}`);
    assert.equal(report.failures, []);
    await proxy.stop();
  });
}

away("given sessions in every stage of their ends, then the rest of them comes to pass", async (context) => {
  const { world, dir } = context;
  const origin = await Peer.start(world, "far");
  const clients = await Peer.start(world, "near");
  const server = await origin.listen({ behaviour: "report" });
  const config = context.config.replace(/10\.77\.0\.2:\d+/, `10.77.0.2:${server.port}`);
  let proxy = await world.proxy(config);
  const pair = async (text: string) => {
    const client = await clients.connect(8001, "127.0.0.1", { text });
    const upstream = await server.next();
    await upstream.heard(text);
    return { client, upstream };
  };
  const [open, clientEnded, upstreamEnded] = [await pair("a"), await pair("b"), await pair("c")];
  await clientEnded.client.end();
  await clientEnded.upstream.saw("end");
  await upstreamEnded.upstream.end();
  await upstreamEnded.client.saw("end");
  assert.is((await checkpoint(world, proxy, dir)).code, 0);
  await proxy.ended();
  // What peers say and end while nobody is there comes to pass afterwards.
  await open.client.write(" and d");
  await clientEnded.upstream.write("answer");
  await clientEnded.upstream.end();
  await upstreamEnded.client.write(" and e");
  await upstreamEnded.client.end();
  await sleep(300);
  proxy = await restore({ ...context, config });
  assert.is(await open.upstream.heard("a and d"), "a and d");
  assert.is(await clientEnded.client.heard("answer"), "answer");
  await clientEnded.client.saw("end");
  assert.is(await upstreamEnded.upstream.heard("c and e"), "c and e");
  await upstreamEnded.upstream.saw("end");
  await open.client.end();
  await open.upstream.saw("end");
  await open.upstream.end();
  await open.client.saw("end");
  await proxy.until("all ended", async () => (await proxy.status()).listeners[0]!.active === 0);
  for (const { client, upstream } of [open, clientEnded, upstreamEnded]) {
    assert.is(client.has("error") || upstream.has("error"), false);
  }
  await proxy.stop();
});

away("given a peer that resets meanwhile, then its session ends and the others go on", async (context) => {
  const { world, dir } = context;
  const clients = await Peer.start(world, "near");
  let proxy = await world.proxy(context.config);
  const gone = await clients.connect(8001, "127.0.0.1", { text: "x" });
  await gone.heard("x");
  const report = await under(world, proxy, { ...LOAD, sessions: LOAD.sessions + 1 }, async () => {
    assert.is((await checkpoint(world, proxy, dir)).code, 0);
    await proxy.ended();
    assert.is(proxy.said("all sessions are away, ending")[0]?.sessions, LOAD.sessions + 2);
    await gone.reset();
    proxy = await restore(context);
    await proxy.until(
      "its session ended",
      async () => (await proxy.status()).listeners[0]!.active === LOAD.sessions + 1,
    );
  });
  assert.equal(report.failures, []);
  assert.is(await ruleset(world), "");
  await proxy.stop();
});

away(
  "given images whose connections exist already, then those are ended, and the log names them",
  async (context) => {
    const { world, dir } = context;
    const clients = await Peer.start(world, "near");
    const proxy = await world.proxy(context.config);
    const client = await clients.connect(8001, "127.0.0.1", { text: "x" });
    await client.heard("x");
    assert.is((await checkpoint(world, proxy, dir)).code, 0);
    await proxy.ended();
    const copy = `${dir}-copy`;
    await cp(dir, copy, { recursive: true });
    const first = await restore(context);
    const second = await restore({ ...context, config: context.config.replace("8001", "8002"), dir: copy });
    assert.is(second.said("a session cannot be restored, its other connection is reset").length, 1);
    assert.is(second.said("sessions restored")[0]?.failed, 1);
    assert.is(await ruleset(world), "");
    await second.stop();
    await first.stop("SIGKILL");
  },
);

for (const [given, prefix, problem] of [
  [
    "a full disk",
    ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16k none "$DIR" && exec "$@"', "sh"],
    /ENOSPC/,
  ],
  [
    "a read-only directory",
    ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o ro none "$DIR" && exec "$@"', "sh"],
    /EROFS/,
  ],
] as const) {
  away(`given ${given}, then sessions go on, and an error says why`, async ({ world, config, dir }) => {
    const proxy = await world.proxy(config, { prefix: ["env", `DIR=${dir}`, ...prefix] });
    const report = await under(world, proxy, LOAD, async () => {
      const { code, stdout, stderr } = await checkpoint(world, proxy, dir);
      assert.is(code, 1);
      assert.is(stdout, "");
      assert.match(stderr, problem);
      assert.match(stderr, /^accelproxy: [^\n]+\n$/);
      assert.is(proxy.said("no checkpoint, sessions go on").length, 1);
      assert.is(await ruleset(world), "");
      await sleep(100);
    });
    assert.equal(report.failures, []);
    await proxy.stop();
  });
}

away(
  "given an edited image, or a port that is taken, then nothing is restored until that is put right",
  async (context) => {
    const { world, dir } = context;
    let proxy = await world.proxy(context.config);
    const report = await under(world, proxy, LOAD, async () => {
      assert.is((await checkpoint(world, proxy, dir)).code, 0);
      await proxy.ended();
      const guarded = await ruleset(world);
      const file = join(dir, "sessions.images");
      const bytes = readFileSync(file);
      const edited = Uint8Array.from(bytes);
      edited[bytes.length >> 1]! ^= 1;
      writeFileSync(file, edited);
      await assertFails(restore(context), /record \d+ was changed/);
      writeFileSync(file, bytes);
      const other = world.near.spawn("python3", ["-c", LISTENER], { stdio: ["pipe", "pipe", "inherit"] });
      await once(other.stdout!, "data");
      await assertFails(restore(context), /127\.0\.0\.1:8001 is in use/);
      other.kill();
      await once(other, "exit");
      assert.is(await ruleset(world), guarded);
      assert.ok(hasImages(dir));
      proxy = await restore(context);
    });
    assert.equal(report.failures, []);
    assert.is(await ruleset(world), "");
    await proxy.stop();
  },
);

/** Listens where the proxy would. */
const LISTENER = `
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", 8001)); s.listen(); print("up", flush=True); sys.stdin.read()
`;

async function assertFails(restoring: Promise<unknown>, problem: RegExp): Promise<void> {
  const message = await restoring.then(
    () => "it was restored",
    (error: Error) => error.message,
  );
  assert.match(message, /proxy exited with 1/);
  assert.match(message, problem);
}

/** What a kill left: images that restore everything, or an end that every peer sees when the guard's time is over. */
async function assertWholeOrOver(context: CheckpointWorld): Promise<ProxyProcess | undefined> {
  const { world, dir } = context;
  if (hasImages(dir)) return restore(context);
  for (const [element] of (await ruleset(world)).matchAll(/[^\n,{]*goto away/g)) {
    assert.match(element, /timeout 2m/);
  }
  await world.near.run("nft", ["flush", "ruleset"]);
  return undefined;
}

for (const [given, delayMs] of [
  ["soon", 160],
  ["later", 230],
] as const) {
  for (const half of ["put away", "restored"] as const) {
    away(
      `given SIGKILL ${given} while it is ${half}, then images and guard are whole, or peers see the end`,
      async (context) => {
        const { world, config, dir } = context;
        const first = await world.proxy(config);
        let proxy: ProxyProcess | undefined;
        const report = await under(world, first, LOAD, async () => {
          const asked = checkpoint(world, first, dir);
          if (half === "put away") {
            await sleep(delayMs);
            await first.stop("SIGKILL");
            await asked;
          } else {
            assert.is((await asked).code, 0);
            const second = await world.proxy(config, { args: ["--restore", dir] });
            await sleep((delayMs - 160) / 10);
            await second.stop("SIGKILL");
          }
          proxy = await assertWholeOrOver(context);
        });
        console.log(`  ${proxy ? "images were whole" : "no images"}`);
        assert.is(report.failures.length, proxy ? 0 : LOAD.sessions);
        assert.is(await ruleset(world), "");
        await proxy?.stop();
      },
    );
  }
}

away.run();
