// Goal: `accelproxy probe --lifetime` tells how long a server holds a half-open, for any net.ipv4.tcp_synack_retries.
// Method: one host of the lab for each setting, 40 ms away, all probed at once by the built program; takes 70 s.
import { once } from "node:events";
import * as assert from "uvu/assert";
import type { ProbeReport } from "../../proxy/probe/report.ts";
import { World } from "../e2e/world.ts";

const PORT = 8080;
const SERVER = `require("node:http").createServer((_, response) => response.end()).listen(${PORT}, () => console.log())`;
/** The SYN-ACK again after 1, 3, 7, 15, 31 s; forgotten when the next one would be due. */
const LIFETIME_MS = { 0: 1_000, 1: 3_000, 2: 7_000, 3: 15_000, 5: 63_000 } as const;
const ROOM_SHARE = 0.05;
const ROOM_MS = 300;
const program = new URL("../../dist/proxy/cli.js", import.meta.url).pathname;

const hosts = Object.entries(LIFETIME_MS).map(([retries, lifetimeMs]) => ({
  name: `retries${retries}`,
  retries: Number(retries),
  lifetimeMs,
}));
await using world = await World.create({
  hosts: ["near", ...hosts.map(({ name }) => name)],
  links: hosts.map(({ name }) => ({ between: ["near", name], rttMs: 40 })),
});

async function probe({ name, retries, lifetimeMs }: (typeof hosts)[number]): Promise<void> {
  const host = world.lab.host(name);
  host.sysctl({ "net.ipv4.tcp_synack_retries": retries });
  const server = host.spawn(process.execPath, ["-e", SERVER], { stdio: ["ignore", "pipe", "inherit"] });
  await once(server.stdout!, "data");
  const args = [program, "probe", `${host.address()}:${PORT}`, "--count", "5", "--lifetime", "--json"];
  const { code, stdout, stderr } = await world.near.run(process.execPath, args, { timeoutMs: 120_000 });
  assert.is(code, 0, stderr);
  const { halfOpen, cookies } = JSON.parse(stdout) as ProbeReport;
  console.log(`tcp_synack_retries ${retries}: ${JSON.stringify(halfOpen)}`);
  assert.is(cookies, false);
  if (halfOpen === null) throw new Error("the half-open was not answered");
  assert.is(halfOpen.fate, "forgotten");
  assert.is(halfOpen.repeatedAtMs.length, retries);
  const roomMs = Math.max(ROOM_MS, lifetimeMs * ROOM_SHARE);
  assert.ok(Math.abs(halfOpen.lifetimeMs! - lifetimeMs) <= roomMs, `${halfOpen.lifetimeMs} ms`);
}

await Promise.all(hosts.map(probe));
console.log("ok");
