/**
 * `npm run soak -- transparent`: what a client that knows of nothing wins behind a gateway, exactly, and what a scan may do.
 *
 * - 50 destinations, IPv4 and IPv6, by TPROXY and by REDIRECT, origins 20 ms behind the gateway: to the first byte a later
 *   visit takes one round trip, and what the hop takes; a first one two (medians; quiet machine). What curl, the origin and
 *   the lab's lines take besides is what they take beyond two round trips when the gateway only forwards.
 * - 100 MiB have the same hash at both ends.
 * - 10,000 destinations visited once each: at no time more half-opens than `maxHalfOpen`, and the pool that was in use before is
 *   there after, and of use.
 */
import * as assert from "uvu/assert";
import { median } from "../e2e/peer.ts";
import { bodyHash, PORT, RTT_MS, TransparentWorld, transparentConfig } from "../e2e/transparent-world.ts";

const DESTINATIONS = 50;
const VISITS = 3;
const WARM_UP = 400;
/** What the gateway adds: a process more that has to wake up, on idle virtual processors, for each step. */
const HOP_MS = 1.5;
const BYTES = 100 << 20;
const SCANNED = 10_000;
const MAX_HALF_OPEN = 64;
const METHODS = ["tproxy", "redirect"] as const;
const FAMILIES = [4, 6] as const;

await using lab = await TransparentWorld.create();
for (const method of METHODS) await visit(method);
await scan();

async function visit(method: (typeof METHODS)[number]): Promise<void> {
  const before = await lab.rules();
  const config = transparentConfig({ method });
  const proxy = await lab.world.proxy(config, { host: "gateway" });
  lab.intercept(config, "apply");
  await warmUp();
  for (const family of FAMILIES) {
    const addresses = Array.from({ length: DESTINATIONS }, (_, index) => lab.destination(index, family));
    lab.intercept(config, "remove");
    const direct = median(await visitAll(addresses));
    lab.intercept(config, "apply");
    const first = median(await visitAll(addresses));
    const times: number[] = [];
    for (let turn = 0; turn < VISITS; turn++) times.push(...(await visitAll(addresses)));
    const later = median(times);
    const numbers = [direct, first, later].map((ms) => ms.toFixed(1));
    console.log(
      `${method}, IPv${family}: ${numbers[0]} ms directly, ${numbers[1]} at first, ${numbers[2]} later`,
    );
    const besidesMs = direct - 2 * RTT_MS;
    assert.ok(besidesMs > 0 && besidesMs < RTT_MS / 2, `${direct} ms directly`);
    assert.ok(later <= RTT_MS + besidesMs + HOP_MS, `${later} ms later`);
    assert.ok(first >= 2 * RTT_MS && first <= direct + 5, `${first} ms at first`);
    const host = family === 4 ? addresses[0] : `[${addresses[0]}]`;
    const command = `curl -gsS -m 60 'http://${host}:${PORT}/?bytes=${BYTES}' | sha256sum`;
    const { stdout } = await lab.world.lab.host("client").run("sh", ["-c", command]);
    assert.is(stdout.split(" ")[0], bodyHash(BYTES));
  }
  await proxy.stop("SIGKILL");
  lab.intercept(config, "remove");
  assert.is(await lab.rules(), before);
}

/** The proxy's code is compiled as it is used: hundreds of requests of somebody else go before those that are measured. */
async function warmUp(): Promise<void> {
  const program = `
    const { get } = require("node:http");
    const visit = () => new Promise((done) => get("http://${lab.destination(49, 4)}:${PORT}/", (response) => response.resume().on("end", done)));
    (async () => { for (let i = 0; i < ${WARM_UP}; i++) await visit(); })();`;
  const { code, stderr } = await lab.world.lab.host("client").run(process.execPath, ["-e", program]);
  assert.is(code, 0, stderr);
}

/** First bytes of one visit each. */
async function visitAll(addresses: readonly string[]): Promise<number[]> {
  const times: number[] = [];
  for (const address of addresses) {
    const { code, firstByteMs } = await lab.fetch(address);
    assert.is(code, 0);
    times.push(firstByteMs);
  }
  return times;
}

async function scan(): Promise<void> {
  const learned = `learned: { maxHalfOpen: ${MAX_HALF_OPEN}, maxSynRate: ${2 * MAX_HALF_OPEN} }`;
  const config = transparentConfig({ method: "tproxy", upstream: `, ${learned}` });
  const proxy = await lab.world.proxy(config, { host: "gateway" });
  lab.intercept(config, "apply");
  const busy = lab.destination(0, 4);
  for (let turn = 0; turn < 5; turn++) await lab.fetch(busy);
  const program = `
    const net = require("node:net");
    let next = 0;
    const visit = (at) => new Promise((done) => {
      const host = "10.90." + (at % 3) + "." + (2 + (at / 3 | 0) % 250);
      const socket = net.connect(at < 750 ? ${PORT} : 10000 + at, host, () => socket.write("GET / HTTP/1.0\\r\\n\\r\\n"));
      socket.on("data", () => socket.destroy()).on("error", done).on("close", done);
    });
    Promise.all(Array.from({ length: 20 }, async () => { while (next < ${SCANNED}) await visit(next++); }));`;
  let isDone = false;
  const scanned = lab.world.lab
    .host("client")
    .run(process.execPath, ["-e", program], { timeoutMs: 150_000 })
    .finally(() => {
      isDone = true;
    });
  let most = 0;
  while (!isDone) {
    const { pools } = await proxy.status();
    most = Math.max(
      most,
      pools.reduce((total, { halfOpen }) => total + halfOpen, 0),
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.is((await scanned).code, 0);
  const { pools, listeners } = await proxy.status();
  const hits = pools.find(({ server }) => server === `${busy}:${PORT}`)?.hits ?? 0;
  console.log(`scan: ${listeners[0]!.total} sessions, ${most} half-opens at most, ${pools.length} pools`);
  assert.ok(listeners[0]!.total >= SCANNED);
  assert.ok(most <= MAX_HALF_OPEN, `${most} half-opens`);
  assert.ok(hits > 0, "the pool in use is gone");
  const times: number[] = [];
  for (let turn = 0; turn < 5; turn++) times.push((await lab.fetch(busy)).firstByteMs);
  assert.ok(median(times) < 1.5 * RTT_MS, `${times}`);
  lab.intercept(config, "remove");
  assert.is(await proxy.stop(), 0);
}
