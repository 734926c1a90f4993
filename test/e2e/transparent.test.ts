// Goal: a client that knows of nothing is accelerated by a gateway, and by its own host; what intercepts goes as it came.
// Method: a lab with a client, a gateway and three origins 20 ms behind it; curl on the client asks addresses of both
// families, by TPROXY and by REDIRECT. That a later visit took a half-open is counted; how long it took is measured by the soak.
import { once } from "node:events";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { median } from "./peer.ts";
import {
  bodyHash,
  LISTENER_PORT,
  PORT,
  RTT_MS,
  TransparentWorld,
  transparentConfig,
} from "./transparent-world.ts";
import type { ProxyProcess } from "./world.ts";

/** Of 50; the processors are busy. */
const DESTINATIONS = 10;
const BYTES = 4 << 20;

interface Context {
  lab: TransparentWorld;
  before: string;
  proxy: ProxyProcess | undefined;
}

const transparent = suite<Context>("transparent");
transparent.before(async (context) => {
  context.lab = await TransparentWorld.create();
  context.before = await context.lab.rules();
});
transparent.after.each(async (context) => {
  if (context.proxy === undefined) return;
  await context.proxy.stop("SIGKILL");
  context.lab.intercept(transparentConfig({ method: "tproxy" }), "remove");
  context.proxy = undefined;
});
transparent.after(async ({ lab }) => {
  await lab[Symbol.asyncDispose]();
});

function sum<T extends string>(of: readonly Readonly<Record<T, number>>[], field: T): number {
  return of.reduce((total, entry) => total + entry[field], 0);
}

async function start(context: Context, config: string): Promise<ProxyProcess> {
  context.proxy = await context.lab.world.proxy(config, { host: "gateway" });
  return context.proxy;
}

/** Who has nothing to do with interception: a connection of before, and one to a service of the gateway, where ask() opens another. */
async function openBystanders(lab: TransparentWorld) {
  const { world } = lab;
  const service = `require("node:net").createServer((s) => s.pipe(s)).listen(9000, "::", () => console.log("up"))`;
  const server = world.lab
    .host("gateway")
    .spawn(process.execPath, ["-e", service], { stdio: ["ignore", "pipe", "inherit"] });
  await once(server.stdout!, "data");
  const asking = `
    const net = require("node:net");
    const ask = (socket) => { socket.write("GET / HTTP/1.1\\r\\nhost: x\\r\\nconnection: keep-alive\\r\\n\\r\\n"); return new Promise((done, fail) => socket.once("data", done).once("close", () => fail(new Error("closed")))); };
    const open = (port, host) => new Promise((done) => { const s = net.connect(port, host, () => done(s)); });
    (async () => {
      const before = [await open(9000, "10.77.0.2"), await open(${PORT}, "${lab.destination(0, 4)}")];
      console.log("open");
      process.stdin.once("data", async () => {
        await Promise.all(before.map(ask));
        await ask(await open(9000, "10.77.0.2"));
        console.log("answered");
        process.exit(0);
      });
    })();`;
  const client = world.lab
    .host("client")
    .spawn(process.execPath, ["-e", asking], { stdio: ["pipe", "pipe", "inherit"] });
  await once(client.stdout!, "data");
  return {
    async ask(): Promise<void> {
      client.stdin!.write("\n");
      const [said] = await once(client.stdout!, "data", { signal: AbortSignal.timeout(5_000) });
      assert.is(String(said), "answered\n");
    },
    [Symbol.dispose](): void {
      client.kill();
      server.kill();
    },
  };
}

const families = [4, 6] as const;

for (const method of ["tproxy", "redirect"] as const) {
  transparent(`given ${method} on a gateway, then later visits take one round trip`, async (context) => {
    const { lab, before } = context;
    const config = transparentConfig({ method });
    const proxy = await start(context, config);
    await lab.interceptCommand(config, "apply");
    const addresses = families.flatMap((family) =>
      Array.from({ length: DESTINATIONS / 2 }, (_, index) => lab.destination(index, family)),
    );
    const visitAll = (): Promise<number[]> =>
      Promise.all(
        addresses.map(async (address) => {
          const { text, code, firstByteMs, remote } = await lab.fetch(address);
          assert.equal([code, remote], [0, address], proxy.stderr.join("\n"));
          assert.is(text.split(" ")[0]!.replace("::ffff:", ""), address);
          return firstByteMs;
        }),
      );
    const firsts = await visitAll();
    await proxy.until("half-opens", async () => {
      const { pools } = await proxy.status();
      return pools.length === DESTINATIONS && pools.every(({ halfOpen }) => halfOpen > 0);
    });
    const laters = [...(await visitAll()), ...(await visitAll())];
    console.log(
      `  ${method}: ${median(firsts).toFixed(1)} ms at first, ${median(laters).toFixed(1)} ms later`,
    );
    assert.ok(Math.min(...firsts) >= 2 * RTT_MS, "a first visit took less than two round trips");
    assert.ok(Math.min(...laters) < 2 * RTT_MS, `${median(laters)} ms`);
    const { pools, listeners } = await proxy.status();
    assert.is(pools.length, DESTINATIONS);
    assert.ok(pools.every(({ hits }) => hits > 0));
    assert.ok(sum(pools, "hits") > laters.length / 2, `${sum(pools, "hits")} hits`);
    assert.equal(
      listeners.map(({ total }) => total),
      families.map(() => (3 * DESTINATIONS) / 2),
    );
    await Promise.all(
      families.map(async (family) => {
        const target = lab.destination(0, family);
        const host = family === 4 ? target : `[${target}]`;
        const command = `curl -gsS -m 20 'http://${host}:${PORT}/?bytes=${BYTES}' | sha256sum`;
        const { stdout } = await lab.world.lab.host("client").run("sh", ["-c", command]);
        assert.is(stdout.split(" ")[0], bodyHash(BYTES));
      }),
    );
    assert.equal(proxy.said("refusing a connection that would come back"), []);
    lab.intercept(config, "apply"); // twice is once
    await proxy.stop("SIGKILL");
    assert.is.not(await lab.rules(), before);
    await lab.interceptCommand(config, "remove");
    lab.intercept(config, "remove");
    assert.is(await lab.rules(), before);
  });
}

for (const method of ["tproxy", "redirect"] as const) {
  transparent(
    `given ${method} of the host's own connections too, then they are accelerated; what was open goes on, as do services`,
    async (context) => {
      const { lab } = context;
      using bystanders = await openBystanders(lab);
      const config = transparentConfig({ method, traffic: "both" });
      const proxy = await start(context, config);
      lab.intercept(config, "apply");
      await bystanders.ask();
      await Promise.all(
        families.map(async (family) => {
          const times: number[] = [];
          for (let visit = 0; visit < 6; visit++) {
            const { text, code, firstByteMs } = await lab.fetch(lab.destination(1, family), {
              host: "gateway",
            });
            assert.is(code, 0);
            assert.is(text.split(" ")[0]!.replace("::ffff:", ""), lab.destination(1, family));
            times.push(firstByteMs);
          }
          assert.ok(Math.min(...times.slice(1)) < 2 * RTT_MS, times.join());
        }),
      );
      const { pools, listeners } = await proxy.status();
      assert.equal(
        pools.map(({ hits }) => hits > 0),
        [true, true],
      );
      // Its own connections never came back to it.
      assert.equal(
        listeners.map(({ total }) => total),
        [6, 6],
      );
      assert.equal(
        listeners.map(({ mode }) => mode),
        ["transparent", "transparent"],
      );
      lab.intercept(config, "remove");
      assert.is(await proxy.stop(), 0);
    },
  );
}

transparent("given what is denied, or not allowed, then it passes plainly", async (context) => {
  const { lab } = context;
  const [denied, allowed, other] = [0, 1, 2].map((index) => lab.destination(index, 4));
  const listener = `, allow: ["${allowed}/32:${PORT}", "${denied}/32"], deny: ["${denied}/32"]`;
  const proxy = await start(context, transparentConfig({ method: "tproxy", listener }));
  // Rules that know of no lists: what arrives nevertheless is proxied, and not accelerated.
  lab.intercept(transparentConfig({ method: "tproxy" }), "apply");
  for (const address of [denied!, allowed!, other!, denied!, allowed!, other!]) {
    assert.is((await lab.fetch(address)).code, 0);
  }
  assert.equal(
    (await proxy.status()).pools.map(({ server }) => server),
    [`${allowed}:${PORT}`],
  );
  // With the lists the rules pass them by.
  lab.intercept(transparentConfig({ method: "tproxy", listener }), "apply");
  const { total } = (await proxy.status()).listeners[0]!;
  for (const address of [denied!, other!]) assert.ok((await lab.fetch(address)).connectMs >= RTT_MS);
  assert.is((await proxy.status()).listeners[0]!.total, total);
  lab.intercept(transparentConfig({ method: "tproxy" }), "remove");
  assert.is(await proxy.stop(), 0);
});

transparent(
  "given a connection to the listener, or one that is our own, then it is refused with a line",
  async (context) => {
    const { lab } = context;
    const config = transparentConfig({ method: "redirect", traffic: "local" });
    const proxy = await start(context, config);
    const line = "refusing a connection that would come back";
    const direct = await lab.fetch("127.0.0.1", { host: "gateway", port: LISTENER_PORT });
    assert.is.not(direct.code, 0);
    assert.is(proxy.said(line).length, 1);
    // Somebody else's rules, which heed no mark.
    const rules = `table ip loop { chain output { type nat hook output priority -100; tcp dport ${PORT} redirect to :${LISTENER_PORT}; }\n}`;
    const gateway = lab.world.lab.host("gateway");
    assert.is((await gateway.run("nft", ["-f", "-"], { input: rules.replace("; }\n}", "\n}\n}") })).code, 0);
    const looped = await lab.fetch(lab.destination(0, 4), { host: "gateway" });
    assert.is.not(looped.code, 0);
    await proxy.until("the line", () => proxy.said(line).length >= 2);
    const { listeners } = await proxy.status();
    assert.ok(listeners[0]!.total <= 10, `${listeners[0]!.total} sessions of one client`);
    await gateway.run("nft", ["delete", "table", "ip", "loop"]);
    assert.is(await proxy.stop(), 0);
  },
);

transparent(
  "given a scan of many destinations, then the bound holds and pools in use stay",
  async (context) => {
    const { lab } = context;
    const upstream = ", pool: { min: 1, max: 8 }, learned: { maxHalfOpen: 20, maxSynRate: 100 }";
    const config = transparentConfig({ method: "tproxy", upstream });
    const proxy = await start(context, config);
    lab.intercept(config, "apply");
    const busy = lab.destination(0, 4);
    for (let visit = 0; visit < 3; visit++) await lab.fetch(busy);
    const scan = `
    const net = require("node:net");
    const all = Array.from({ length: 300 }, (_, i) => "10.90." + (i % 3) + "." + (2 + (i / 3 | 0)));
    const visit = (host) => new Promise((done) => {
      const socket = net.connect(${PORT}, host, () => socket.write("GET / HTTP/1.0\\r\\n\\r\\n"));
      socket.on("data", () => socket.destroy()).on("error", done).on("close", done);
    });
    (async () => { await Promise.all(Array.from({ length: 10 }, async () => { while (all.length) await visit(all.pop()); })); })();`;
    let most = 0;
    let isDone = false;
    const scanned = lab.world.lab
      .host("client")
      .run(process.execPath, ["-e", scan], { timeoutMs: 30_000 })
      .finally(() => {
        isDone = true;
      });
    while (!isDone) {
      const { pools } = await proxy.status();
      most = Math.max(most, sum(pools, "halfOpen"));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.is((await scanned).code, 0);
    assert.ok(most > 5 && most <= 20, `${most} half-opens`);
    assert.ok((await proxy.status()).listeners[0]!.total >= 300);
    const hitsOf = async () =>
      (await proxy.status()).pools.find(({ server }) => server === `${busy}:${PORT}`)?.hits ?? 0;
    const before = await hitsOf();
    assert.ok(before > 0, "the pool in use is gone");
    for (let visit = 0; visit < 5; visit++) await lab.fetch(busy);
    assert.ok((await hitsOf()) > before, "and is of no use");
    lab.intercept(config, "remove");
    assert.is(await proxy.stop(), 0);
  },
);
transparent.run();
