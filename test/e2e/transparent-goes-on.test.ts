// deadline: 120s
// Goal: what is intercepted lasts as long as its proxy is meant to: rules end with it, or are found and removed after it was
// killed, and sessions go on through a reload, an upgrade, and a checkpoint with a restore, to the servers that their clients
// wanted.
// Method: the lab of transparent.test.ts. Connections of both families, some of which have said nothing yet, are asked in between.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { HeldSessions } from "./held-sessions.ts";
import { LISTENER_PORT, PORT, TransparentWorld, transparentConfig } from "./transparent-world.ts";
import type { ProxyProcess } from "./world.ts";

const families = [4, 6] as const;
const CLI = new URL("../../dist/proxy/cli.js", import.meta.url).pathname;
const WITH_PROXY = ["intercept", "--apply", "--with-proxy"];

interface Context {
  lab: TransparentWorld;
  before: string;
  proxy: ProxyProcess | undefined;
  held: HeldSessions[];
}

const lasting = suite<Context>("transparent, going on");
lasting.before(async (context) => {
  context.lab = await TransparentWorld.create();
  await context.lab.addClients();
  context.before = await context.lab.rules();
});
lasting.before.each((context) => {
  context.held = [];
});
lasting.after.each(async (context) => {
  for (const held of context.held) held.close();
  await context.proxy?.stop("SIGKILL");
  context.proxy = undefined;
  context.lab.intercept(transparentConfig({ method: "tproxy" }), "remove");
});
lasting.after(async ({ lab }) => {
  await lab[Symbol.asyncDispose]();
});

const withClients = transparentConfig({ method: "tproxy", upstream: ", sourceAddress: client" });
for (const [name, config, signal] of [
  ["tproxy", withClients, "SIGTERM"],
  ["redirect", transparentConfig({ method: "redirect", traffic: "both" }), "SIGTERM"],
  ["tproxy", withClients, "SIGKILL"],
] as const) {
  lasting(
    `given ${name} --with-proxy and ${signal}, then no rule is left, or --remove leaves none`,
    async (context) => {
      const { lab, before } = context;
      const proxy = await lab.world.proxy(config, { host: "gateway", command: WITH_PROXY });
      context.proxy = proxy;
      assert.is.not(await lab.rules(), before);
      for (const family of families) assert.is((await lab.fetch(lab.destination(1, family))).code, 0);
      const { listeners } = await proxy.status();
      assert.equal(
        listeners.map(({ total }) => total),
        [1, 1],
      );
      assert.is(await proxy.stop(signal), signal === "SIGTERM" ? 0 : null);
      if (signal === "SIGKILL") {
        assert.is.not(await lab.rules(), before);
        await lab.interceptCommand(config, "remove");
      }
      assert.is(await lab.rules(), before);
    },
  );
}

lasting("given --with-proxy whose proxy cannot start, then no rule is left", async (context) => {
  const { lab, before } = context;
  const config = transparentConfig({ method: "tproxy" });
  context.proxy = await lab.world.proxy(config, { host: "gateway" });
  const file = join(lab.world.folder, "second.yaml");
  await writeFile(file, config);
  const second = await lab.world.lab
    .host("gateway")
    .run(process.execPath, [CLI, ...WITH_PROXY, "--config", file]);
  assert.is(second.code, 1);
  assert.match(second.stderr, new RegExp(`${LISTENER_PORT}`));
  assert.is(await lab.rules(), before);
});

for (const [method, sourceAddress] of [
  ["tproxy", "proxy"],
  ["tproxy", "client"],
  ["redirect", "proxy"],
] as const) {
  lasting(
    `given ${method}, sourceAddress: ${sourceAddress}, then sessions go on through reload, upgrade and checkpoint`,
    async (context) => {
      const { lab } = context;
      const { world } = lab;
      const config = transparentConfig({
        method,
        listener: ", takeAfter: 60s",
        upstream: `, sourceAddress: ${sourceAddress}`,
      });
      lab.intercept(config, "apply");
      let proxy = await world.proxy(config, { host: "gateway" });
      context.proxy = proxy;
      const ends = families.flatMap((family) =>
        [0, 1].map((index) => ({
          to: lab.destination(index, family),
          from: lab.clientAddress(index + 20, family),
        })),
      );
      const gateways = new Map(
        ends.map(({ to }, index) => [
          ends[index]!.from,
          world.lab.host("gateway").address(to.includes(":") ? 6 : 4, ["one", "two"][index % 2]!),
        ]),
      );
      const seen = (from: string): string => (sourceAddress === "client" ? from : gateways.get(from)!);
      const open = async (): Promise<HeldSessions> => {
        const held = await HeldSessions.open(lab, ends);
        context.held.push(held);
        return held;
      };
      const visit = async (): Promise<void> => {
        for (const { to, from } of ends) {
          const { text, code } = await lab.fetch(to, { from });
          assert.is(code, 0);
          assert.is(text.replaceAll("::ffff:", ""), `${to} ${seen(from)}`);
        }
      };
      const [talking, silent, later] = [await open(), await open(), await open()];
      assert.equal(await talking.ask("first", seen), []);

      const file = join(world.folder, `proxy${world.count}.yaml`);
      const denied = ends[0]!.to;
      const text = await readFile(file, "utf8");
      await writeFile(file, text.replaceAll("takeAfter: 60s", `takeAfter: 60s, deny: ["${denied}/32"]`));
      process.kill(proxy.pid, "SIGHUP");
      await proxy.until("reloaded", () => proxy.said("configuration reloaded").length > 0);
      assert.equal(await talking.ask("reloaded", seen), []);
      await visit();
      await visit();
      const pools = async () => (await proxy.status()).pools.map(({ server }) => server);
      assert.not.ok((await pools()).includes(`${denied}:${PORT}`));
      assert.ok((await pools()).includes(`${ends[1]!.to}:${PORT}`));

      await proxy.upgrade();
      assert.equal(await talking.ask("upgraded", seen), []);
      assert.equal(await silent.ask("upgraded", seen), []);
      await visit();

      await proxy.until("visits are over", async () => {
        const { listeners } = await proxy.status();
        return listeners.reduce((sum, { active }) => sum + active, 0) === 3 * ends.length;
      });
      const dir = join(world.folder, `images-${method}-${sourceAddress}`);
      await mkdir(dir, { mode: 0o700 });
      const away = await world.lab
        .host("gateway")
        .run(process.execPath, [CLI, "checkpoint", "--dir", dir, "--admin", `unix:${proxy.adminSocket}`]);
      assert.is(away.code, 0, away.stderr);
      assert.match(away.stdout, /^12 sessions /);
      const asked = [talking, silent].map((held) => held.ask("while away", seen));
      proxy = await world.proxy(config, { host: "gateway", args: ["--restore", dir] });
      context.proxy = proxy;
      await proxy.until("restored", () => proxy.said("sessions restored").length > 0);
      assert.equal(await Promise.all(asked), [[], []]);
      assert.equal(await later.ask("restored", seen), []);
      await visit();
      assert.equal(
        proxy.said("sessions restored").map(({ failed }) => failed),
        [0],
      );
      for (const held of context.held) held.close();
      assert.is(await proxy.stop(), 0);
    },
  );
}
lasting.run();
