/**
 * Http listeners for long, in the lab at 40 ms: fresh requests within one round trip + 3 ms, two + 5 ms to a TLS upstream; an
 * upstream that forgets its half-opens a hundred times, right before they are used, by GET and POST, plain and over TLS;
 * then a transfer of 1 GiB each way on loopback, with equal hashes and flat memory. Exit 1 when a request failed or was
 * not processed exactly once, when hardly any half-open had been forgotten, or when memory grew by more than 64 MiB.
 *
 *   npm run soak -- http [ROUNDS [MIB]]
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { HttpWorld } from "../e2e/http-world.ts";
import { RTT_MS } from "../e2e/library-world.ts";
import { randomBytes } from "../e2e/random-bytes.ts";
import { HttpProxy } from "../proxy/http/http-proxy.ts";

const [ROUNDS = 100, MIB = 1_024] = process.argv.slice(2).map(Number);
const FORGOTTEN_A_ROUND = 10;
const SAMPLES = 51;
const GROWTH_MAX = 64 << 20;
const CHUNK = 65_536;

const problems: string[] = [];

async function forgetting(): Promise<void> {
  const world = await HttpWorld.create();
  for (const [scheme, limitMs] of [
    ["http", RTT_MS + 3],
    ["https", 2 * RTT_MS + 5],
  ] as const) {
    await world.medians(scheme, SAMPLES); // compiled by then
    const { ours, theirs } = await world.medians(scheme, SAMPLES);
    console.log(`${scheme}: ${ours.toFixed(2)} ms, without ${theirs.toFixed(2)} ms`);
    if (ours > limitMs) problems.push(`${scheme}: ${ours} ms, more than ${limitMs}`);
  }
  for (let round = 1; round <= ROUNDS; round++) {
    await sleep(Math.random() * 800); // another phase of the refreshes
    problems.push(...(await world.forgetAndAsk()));
    if (round % 10 === 0) console.log(`${round} rounds, ${problems.length} problems`);
  }
  const lines = world.proxy.said("request");
  const replayed = lines.filter(({ connect }) => connect === "replayed").length;
  await world.close();
  console.log(`${lines.length} requests, ${replayed} met a forgotten half-open`);
  if (replayed < FORGOTTEN_A_ROUND * ROUNDS) problems.push(`only ${replayed} half-opens had been forgotten`);
}

/** Sends the same pseudo-random bytes up and down; both ends hash them. */
async function transfers(): Promise<void> {
  const bytes = MIB << 20;
  const expected = createHash("sha256");
  for (const chunk of randomBytes(5, bytes, CHUNK)) expected.update(chunk);
  const sum = expected.digest("hex");
  const origin = createServer(async (asked, response) => {
    if (asked.method === "POST") {
      const hash = createHash("sha256");
      for await (const chunk of asked as AsyncIterable<Buffer>) hash.update(chunk);
      response.end(hash.digest("hex"));
      return;
    }
    response.setHeader("content-length", bytes);
    for (const chunk of randomBytes(5, bytes, CHUNK))
      if (!response.write(chunk)) await once(response, "drain");
    response.end();
  }).listen(0, "127.0.0.1");
  await once(origin, "listening");
  const proxy = await HttpProxy.start(`
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o }]
upstreams: { o: { servers: [{ address: "127.0.0.1:${(origin.address() as AddressInfo).port}" }] } }`);
  const before = memoryOf(proxy.pid);
  let peak = before;
  const watching = setInterval(() => {
    peak = Math.max(peak, memoryOf(proxy.pid));
  }, 100);
  const target = { port: proxy.port("web"), host: "127.0.0.1" };
  const up = request({ ...target, method: "POST" });
  const answered = once(up, "response") as Promise<[IncomingMessage]>;
  for (const chunk of randomBytes(5, bytes, CHUNK)) if (!up.write(chunk)) await once(up, "drain");
  up.end();
  const [answer] = await answered;
  const uploaded = (await answer.toArray()).join("");
  const [response] = (await once(request(target).end(), "response")) as [IncomingMessage];
  const hash = createHash("sha256");
  for await (const chunk of response as AsyncIterable<Buffer>) hash.update(chunk);
  clearInterval(watching);
  await proxy.stop();
  origin.close();
  origin.closeAllConnections();
  if (uploaded !== sum) problems.push("the upload was not what was sent");
  if (hash.digest("hex") !== sum) problems.push("the download was not what was sent");
  const growth = peak - before;
  console.log(`${MIB} MiB up and down, memory grew by ${(growth / 2 ** 20).toFixed(0)} MiB`);
  if (growth > GROWTH_MAX) problems.push(`memory grew by ${growth} bytes`);
}

function memoryOf(pid: number): number {
  return 1_024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

if (ROUNDS > 0) await forgetting();
if (MIB > 0) await transfers();
for (const problem of problems) console.log(`PROBLEM ${problem}`);
console.log(`${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
