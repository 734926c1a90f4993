/** What bytes.test.ts and the soak of the same name share: an echoing upstream, and the memory of the proxy. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import * as assert from "uvu/assert";
import { Peer, type PeerServer } from "./peer.ts";
import { randomBytes } from "./random-bytes.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 10;

export interface BytesWorld {
  readonly world: World;
  readonly proxy: ProxyProcess;
  readonly client: Peer;
  readonly server: PeerServer;
}

/** A proxy in front of an echoing upstream ("echo") and one that the test drives ("driven"). */
export async function createBytesWorld(): Promise<BytesWorld> {
  const world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  const client = await Peer.start(world, "near");
  const origin = await Peer.start(world, "far");
  const echo = await origin.listen({ behaviour: "echo" }, 0, "0.0.0.0", 4_096);
  const server = await origin.listen({ behaviour: "report" });
  const proxy = await world.proxy(`
listeners:
  - { name: echo, bind: "127.0.0.1:0", upstream: echo }
  - { name: driven, bind: "127.0.0.1:0", upstream: driven }
upstreams:
  echo: { servers: [{ address: "10.77.0.2:${echo.port}" }], connectTimeout: 20s }
  driven: { servers: [{ address: "10.77.0.2:${server.port}" }] }
`);
  await proxy.ready();
  return { world, proxy, client, server };
}

/** SHA-256 of the pseudo-random bytes of a seed. */
export function sumOf(seed: number, bytes: number): string {
  const hash = createHash("sha256");
  for (const chunk of randomBytes(seed, bytes)) hash.update(chunk);
  return hash.digest("hex");
}

/** Sends `bytes` through one session to the echoing upstream, and back; returns how long it took. */
export async function thereAndBack(
  { client, proxy }: BytesWorld,
  bytes: number,
  more: { readonly chunk?: number; readonly pauseMs?: number; readonly pauseEvery?: number } = {},
): Promise<number> {
  const startedMs = performance.now();
  const connection = await client.connect(proxy.port("echo"));
  const sent = await connection.send({ bytes, seed: bytes, ...more });
  await connection.end();
  await connection.saw("end", 300_000);
  const { bytes: received, sha256 } = await connection.report();
  assert.is(received, bytes);
  assert.is(sha256, sent);
  assert.not(connection.has("error"));
  return performance.now() - startedMs;
}

/** Resident memory of the proxy, bytes. */
export function residentBytes({ proxy }: BytesWorld): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${proxy.child.pid}/status`, "utf8"));
  return Number(line?.[1]) * 1024;
}
