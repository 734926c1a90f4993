// Goal: without its rights the proxy says what is missing, or passes the traffic plainly when it may.
// Method: the built program in the lab with capabilities taken by setpriv(1), io_uring by a seccomp filter.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LineClient, serve } from "./lines.ts";
import { World } from "./world.ts";

const RTT_MS = 20;

const without = (...capabilities: string[]): string[] => [
  "setpriv",
  "--bounding-set",
  capabilities.map((name) => `-${name}`).join(","),
  "--",
];

/** `acceleration` alone differs between these tests. */
const config = (world: World, acceleration: string): string => `
listeners: [{ name: l, bind: "127.0.0.1:0", upstream: o }]
upstreams: { o: { servers: [{ address: "${world.far.address()}:8080" }] } }
acceleration: ${acceleration}
workers: 1`;

/** The exit code and stderr of a proxy that does not start. */
async function refusal(world: World, prefix: readonly string[], acceleration: string) {
  const error = await world.proxy(config(world, acceleration), { prefix }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.instance(error, Error);
  const { message } = error as Error;
  const code = /proxy exited with (\d+)/.exec(message)?.[1];
  return { code: Number(code), text: message };
}

const rights = suite<{ world: World; client: LineClient }>("rights");

rights.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  await serve(context.world, "far", [{ port: 8080 }]);
  context.client = await LineClient.on(context.world, "near");
});

rights.after(async ({ world }) => {
  await world?.close();
});

for (const missing of [["net_admin", "net_raw"], ["net_admin"], ["net_raw"]]) {
  const names = missing.map((name) => `CAP_${name.toUpperCase()}`);
  rights(`given no ${names.join(" and ")}, then exit 77 names it and the remedy`, async ({ world }) => {
    const { code, text } = await refusal(world, without(...missing), "required");
    assert.is(code, 77);
    for (const name of names) assert.match(text, name);
    for (const other of ["CAP_NET_ADMIN", "CAP_NET_RAW"].filter((name) => !names.includes(name))) {
      assert.not.match(text, `${other} missing`);
    }
    assert.match(text, /setcap|AmbientCapabilities|root/);
    assert.match(text, "acceleration: preferred");
  });
}

rights("given acceleration: preferred, then traffic passes plainly with one warning", async (context) => {
  const { world, client } = context;
  const prefix = without("net_admin", "net_raw");
  const proxy = await world.proxy(config(world, "preferred"), { prefix });
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const { error, bytes, firstByteMs } = await client.request("127.0.0.1", proxy.port("l"), {
      size: 50_000,
    });
    assert.equal([error, bytes], [undefined, 50_000]);
    times.push(firstByteMs);
  }
  assert.ok(Math.min(...times) > 2 * RTT_MS - 1, "an ordinary connection takes two round trips");
  const warnings = proxy.log.filter(({ level }) => level >= 40);
  assert.is(warnings.length, 1, JSON.stringify(warnings));
  assert.match(JSON.stringify(warnings), "CAP_NET_ADMIN");
  const { pools } = await proxy.status();
  assert.equal(pools, []);
  assert.is(await proxy.stop(), 0);
});

rights("given acceleration: off, then it neither tries nor warns", async ({ world, client }) => {
  const proxy = await world.proxy(config(world, "off"), { prefix: without("net_admin", "net_raw") });
  const { error } = await client.request("127.0.0.1", proxy.port("l"));
  assert.is(error, undefined);
  assert.equal(
    proxy.log.filter(({ level }) => level >= 40),
    [],
  );
  assert.is(await proxy.stop(), 0);
});

/** Runs the proxy where io_uring_setup is refused. */
function withoutIoUring(): string[] {
  const preload = new URL("../../scripts/typescript.mjs", import.meta.url).href;
  return [process.execPath, "--import", preload, new URL("./no-io-uring.ts", import.meta.url).pathname];
}

rights("given io_uring forbidden by seccomp and asked for, then it says so", async ({ world }) => {
  const { code, text } = await refusal(world, withoutIoUring(), "required\ndriver: io_uring");
  assert.is(code, 1);
  assert.match(text, /io_uring is unavailable: io_uring_setup gives EPERM/);
  assert.match(text, "seccomp");
});

rights("given io_uring forbidden by seccomp, then it runs on epoll and says why", async (context) => {
  const { world, client } = context;
  const proxy = await world.proxy(config(world, "required"), { prefix: withoutIoUring() });
  const { error, bytes } = await client.request("127.0.0.1", proxy.port("l"), { size: 50_000 });
  assert.equal([error, bytes], [undefined, 50_000]);
  assert.is((await proxy.status()).driver, "epoll");
  const [line] = proxy.said("io_uring cannot be used, running on epoll");
  assert.match(String(line?.reason), /io_uring_setup gives EPERM.*seccomp/);
  await proxy.stop(); // its exit code is that of the program around it
});

rights.run();
