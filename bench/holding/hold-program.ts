/**
 * Holds half-opens with a keeper's thread of its own, as a process: HOST PORT COUNT REST_SECONDS. Prints a line of
 * JSON per phase and goes on when it reads a line: "started" (the thread runs, no pool), "filled", "rested", and
 * last "taken" with the time each take() took.
 */
import { createInterface } from "node:readline";
import { IPPROTO_TCP } from "../../native/abi/socket.ts";
import { TCP_NODELAY } from "../../native/abi/tcp.ts";
import { libc } from "../../native/libc.ts";
import { setLingerZero } from "../../native/sockopt.ts";
import { EntryTable } from "../../pool/entry-table.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import { KeeperHandle } from "../../pool/keeper-handle.ts";
import { PoolBlock } from "../../pool/pool-block.ts";
import { KeeperSignal } from "../../pool/signal.ts";
import { type Lease, Taker } from "../../pool/taker.ts";

const FILL_LIMIT_MS = 60_000;
const TAKES_MAX = 500;
const POLL_MS = 1;
/** The pool is full with this share ready: one at a time is left alone to see whether the server uses cookies. */
const FULL_SHARE = 0.99;
const silent = { debug: () => {}, info: () => {}, warn: () => {} };

const [host = "", port = "", countText = "", restSeconds = ""] = process.argv.slice(2);
const count = Number(countText);
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Reports a phase and waits for leave to go on. */
async function report(phase: string, facts: object = {}): Promise<void> {
  globalThis.gc?.();
  const { rss } = process.memoryUsage();
  process.stdout.write(`${JSON.stringify({ phase, rssBytes: rss, ...facts })}\n`);
  await input.next();
}

/** CPU time of all threads, in µs. */
function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

const keeper = await KeeperHandle.start("silent", silent, (error) => {
  throw error;
});
await report("started");

const startedAt = performance.now();
const share = await keeper.addPool({
  upstream: "bench",
  server: { address: host, port: Number(port) },
  min: count,
  max: count,
  maxSynRate: 100_000,
  maxAgeMs: 3_600_000,
});
const block = new PoolBlock(share.max, share.buffer);
while (block.get("ready") < Math.max(1, Math.floor(FULL_SHARE * count))) {
  if (performance.now() - startedAt > FILL_LIMIT_MS) {
    throw new Error(`${block.get("ready")} of ${count} half-opens after ${FILL_LIMIT_MS} ms`);
  }
  await sleep(POLL_MS);
}
await report("filled", { fillMs: performance.now() - startedAt });

const before = cpuUs();
const restedFrom = performance.now();
await sleep(Number(restSeconds) * 1e3);
const restedMs = performance.now() - restedFrom;
const cpuShare = (cpuUs() - before) / 1e3 / restedMs;
await report("rested", { restedMs, cpuShare, ready: block.get("ready") });

const table = new EntryTable(keeper.share.table);
const shared = {
  table,
  wire: new HandshakeWire(table),
  signal: new KeeperSignal(keeper.share.signal, keeper.share.wakeFd),
};
const taker = new Taker(share, shared, [{ level: IPPROTO_TCP, name: TCP_NODELAY, value: 1 }], 0);
const takesUs: number[] = [];
let missed = 0;
for (let taken = 0; taken < TAKES_MAX; taken++) {
  const tookFrom = performance.now();
  const lease: Lease | undefined = taker.take();
  const tookUs = (performance.now() - tookFrom) * 1e3;
  if (lease === undefined) missed += 1;
  else {
    takesUs.push(tookUs);
    setLingerZero(lease.fd);
    libc.close(lease.fd);
    taker.finish(lease, "reset", 0);
  }
  await sleep(2);
}
await report("taken", { takesUs, missed });
await keeper.stop();
process.exit(0);
