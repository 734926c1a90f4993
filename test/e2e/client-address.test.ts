// deadline: 120s
// Goal: servers see the addresses of the clients, and clients that come back are accelerated all the same.
// Method: the lab of transparent.test.ts, whose origins answer with the address that they see. The client's host has more
// addresses than its own. Of what reaches an origin the RSTs are counted.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PoolStatus } from "../../proxy/status.ts";
import { PORT, RTT_MS, TransparentWorld, transparentConfig } from "./transparent-world.ts";
import { type ProxyProcess, RAW_HEARING } from "./world.ts";

const VISITS = 4;
const families = [4, 6] as const;
const CLIENT = ", sourceAddress: client";

interface Context {
  lab: TransparentWorld;
  before: string;
  proxy: ProxyProcess | undefined;
}

const clients = suite<Context>("client addresses");
clients.before(async (context) => {
  context.lab = await TransparentWorld.create();
  await context.lab.addClients();
  context.before = await context.lab.rules();
});
clients.after.each(async (context) => {
  await context.proxy?.stop("SIGKILL");
  context.proxy = undefined;
  context.lab.intercept(transparentConfig({ method: "tproxy" }), "remove");
  assert.is(await context.lab.rules(), context.before);
});
clients.after(async ({ lab }) => {
  await lab[Symbol.asyncDispose]();
});

/** What the origin says: whom it was asked as, and by whom. */
async function visit(lab: TransparentWorld, address: string, from: string, port = PORT): Promise<string> {
  const { text, code, firstByteMs } = await lab.fetch(address, { from, port });
  assert.is(code, 0);
  times.push(firstByteMs);
  return text.replaceAll("::ffff:", "");
}

const times: number[] = [];

const hitsOf = (pools: readonly PoolStatus[], client: string): number =>
  pools.filter((pool) => pool.client === client).reduce((sum, { hits }) => sum + hits, 0);

for (const [how, method, prefix] of [
  ["tproxy", "tproxy", []],
  ["redirect", "redirect", []],
  ["tproxy, heard with raw sockets", "tproxy", RAW_HEARING],
] as const) {
  clients(
    `given ${how}, then origins see clients, and those who come back take a half-open`,
    async (context) => {
      const { lab } = context;
      const config = transparentConfig({ method, upstream: CLIENT });
      lab.intercept(config, "apply");
      const proxy = await lab.world.proxy(config, { host: "gateway", prefix });
      context.proxy = proxy;
      times.length = 0;
      await Promise.all(
        families.flatMap((family) =>
          [1, 2, 3].map(async (index) => {
            const from = lab.clientAddress(index, family);
            const address = lab.destination(index % 2, family);
            for (let turn = 0; turn < VISITS; turn++) {
              assert.is(await visit(lab, address, from), `${address} ${from}`);
            }
          }),
        ),
      );
      const { pools } = await proxy.status();
      assert.is(pools.length, 6);
      for (const family of families) {
        for (const index of [1, 2, 3]) {
          const hits = hitsOf(pools, lab.clientAddress(index, family));
          assert.ok(hits >= 1 && hits < VISITS, `${hits} hits`);
        }
      }
      assert.ok(Math.min(...times) < 2 * RTT_MS, times.join());
      assert.equal(proxy.said("refusing a connection that would come back"), []);
      assert.is(await proxy.stop(), 0);
    },
  );
}

clients(
  "given a tcp listener, then the same; servers of the other family are passed over",
  async (context) => {
    const { lab } = context;
    const [four, six] = [lab.destination(0, 4), lab.destination(0, 6)];
    const config = `listeners:
  - { name: four, bind: 10.77.0.2:7001, upstream: both }
  - { name: six, bind: "[fd77::2]:7001", upstream: both }
  - { name: only, bind: 10.77.0.2:7002, upstream: six }
upstreams:
  both: { servers: [{ address: "${four}:${PORT}" }, { address: "[${six}]:${PORT}" }]${CLIENT} }
  six: { servers: [{ address: "[${six}]:${PORT}" }]${CLIENT} }
`;
    lab.intercept(config, "apply");
    const proxy = await lab.world.proxy(config, { host: "gateway" });
    context.proxy = proxy;
    for (const [family, listener, server] of [
      [4, "10.77.0.2", four],
      [6, "fd77::2", six],
    ] as const) {
      const from = lab.clientAddress(300, family);
      for (let turn = 0; turn < VISITS; turn++) {
        assert.is(await visit(lab, listener, from, 7001), `${server} ${from}`);
      }
      assert.ok(hitsOf((await proxy.status()).pools, from) >= 1);
    }
    const other = await lab.fetch("10.77.0.2", { from: lab.clientAddress(300, 4), port: 7002 });
    assert.is.not(other.code, 0);
    const [line] = proxy.said("a server cannot see the address of a client of the other family");
    assert.is(line?.client, lab.clientAddress(300, 4));
    assert.match(
      await proxy.metrics(),
      new RegExp(`half_open_events_total\\{[^}]*${four}[^}]*"leased"\\} [1-9]`),
    );
    assert.is(await proxy.stop(), 0);
  },
);

clients(
  "given half-opens of a client's address, then no RST leaves for them until they are given up",
  async (context) => {
    const { lab } = context;
    const config = transparentConfig({ method: "tproxy", upstream: `${CLIENT}, pool: { min: 4, max: 8 }` });
    const origin = lab.world.lab.host("one");
    const counting = `table inet count {
    counter v4 {}
    counter v6 {}
    chain input {
      type filter hook input priority 0;
      ip saddr ${lab.clientAddress(9, 4)} tcp flags rst counter name v4
      ip6 saddr ${lab.clientAddress(9, 6)} tcp flags rst counter name v6
    }
  }`;
    assert.is((await origin.run("nft", ["-f", "-"], { input: counting })).code, 0);
    const resets = async (): Promise<readonly number[]> => {
      const { stdout } = await origin.run("nft", ["list", "counters"]);
      return [...stdout.matchAll(/packets (\d+)/g)].map(([, packets]) => Number(packets));
    };
    lab.intercept(config, "apply");
    const proxy = await lab.world.proxy(config, { host: "gateway" });
    context.proxy = proxy;
    for (const family of families) await visit(lab, lab.destination(0, family), lab.clientAddress(9, family));
    const held = await proxy.until("half-opens", async () => {
      const { pools } = await proxy.status();
      return pools.length === 2 && pools.every(({ halfOpen }) => halfOpen >= 4) ? pools : undefined;
    });
    await new Promise((resolve) => setTimeout(resolve, 2_500)); // repeated SYNs, and answers to them
    const sent = await resets();
    const given = [...(await proxy.metrics()).matchAll(/event="released"\} (\d+)/g)];
    assert.ok(
      sent.every((count, index) => count <= Number(given[index]![1])),
      `${sent} of ${given}`,
    );
    const { pools } = await proxy.status();
    assert.ok(
      pools.every(({ vanished, tainted, refused }) => vanished + tainted + refused === 0),
      JSON.stringify(pools),
    );
    assert.is(await proxy.stop(), 0);
    const after = await resets();
    assert.ok(
      after.every((count, index) => count >= held[index]!.halfOpen),
      after.join(),
    );
    await origin.run("nft", ["delete", "table", "inet", "count"]);
  },
);

clients("given a denied destination, then it passes plainly, from the client's address", async (context) => {
  const { lab } = context;
  const [denied, other] = [lab.destination(0, 4), lab.destination(1, 4)];
  const listener = `, deny: ["${denied}/32"]`;
  const config = transparentConfig({ method: "tproxy", upstream: CLIENT, listener });
  const proxy = await lab.world.proxy(config, { host: "gateway" });
  context.proxy = proxy;
  const from = lab.clientAddress(12, 4);
  // Rules without the list bring it nevertheless; with the list it passes them by.
  for (const rules of [transparentConfig({ method: "tproxy", upstream: CLIENT }), config]) {
    lab.intercept(rules, "apply");
    for (const address of [denied, other, denied]) {
      assert.is(await visit(lab, address, from), `${address} ${from}`);
    }
  }
  const { pools, listeners } = await proxy.status();
  assert.equal(
    pools.map(({ server, client }) => [server, client]),
    [[`${other}:${PORT}`, from]],
  );
  assert.is(listeners[0]!.total, 4);
  assert.is(await proxy.stop(), 0);
});
clients(
  "given no CAP_NET_ADMIN, then the proxy does not start, whatever acceleration is",
  async ({ lab }) => {
    const file = join(lab.world.folder, "unprivileged.yaml");
    await writeFile(file, `${transparentConfig({ method: "tproxy", upstream: CLIENT })}acceleration: off\n`);
    const program = new URL("../../dist/proxy/cli.js", import.meta.url).pathname;
    const { code, stderr } = await lab.world.lab
      .host("gateway")
      .run("setpriv", ["--bounding-set", "-net_admin", "--", process.execPath, program, "--config", file]);
    assert.is(code, 77, stderr);
    assert.match(stderr, /CAP_NET_ADMIN missing, which sourceAddress: client needs/);
  },
);
clients.run();
