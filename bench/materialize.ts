/**
 * CPU time of one materialization (a half-open taken from the pool and made an established socket) beside an
 * ordinary connect() to the same server on loopback, alternating in one run, by the calling thread's CPU
 * clock. connect() on loopback includes the server's side of the handshake, which runs in the same thread;
 * "socket + bind + connect in repair mode" is what the kernel's own part of a connect costs without it.
 *
 *   node dist/bench/materialize.js [--rounds N] [--json FILE]
 *
 * Every materialized socket is checked: a byte sent through it comes back.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { IPPROTO_TCP } from "../native/abi/socket.ts";
import { TCP_NODELAY } from "../native/abi/tcp.ts";
import { encodeSockaddr } from "../native/address.ts";
import { nowMs, threadCpuUs } from "../native/clock.ts";
import { check } from "../native/errno.ts";
import type { Fd } from "../native/fd.ts";
import { libc } from "../native/libc.ts";
import { newTcpSocket, probeRoute } from "../native/net/tcp-socket.ts";
import { EntryTable } from "../pool/entry-table.ts";
import { HandshakeWire } from "../pool/handshake-wire.ts";
import { Keeper } from "../pool/keeper.ts";
import { KeeperSignal } from "../pool/signal.ts";
import { type Lease, Taker } from "../pool/taker.ts";

const HOST = "127.0.0.1";
const PER_ROUND = 32;
const WARM_UP_ROUNDS = 20;
const silent = { debug: () => {}, info: () => {}, warn: () => {} };

interface Row {
  readonly case: string;
  readonly metric: "cpu";
  readonly unit: "us";
  readonly samples: readonly number[];
}

/** The server, a process of its own so that it does not share our thread's clock. */
async function serve(): Promise<void> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.pipe(socket);
  });
  server.listen({ port: 0, host: HOST, backlog: 4096 });
  await once(server, "listening");
  process.send?.((server.address() as { port: number }).port);
  process.once("disconnect", () => process.exit(0));
}

function percentile(samples: readonly number[], p: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? Number.NaN;
}

function measure(samples: number[], act: () => void): void {
  const before = threadCpuUs();
  act();
  samples.push(threadCpuUs() - before);
}

/** A byte there and back: the socket is a connection. */
function assertEcho(fd: number): void {
  const byte = Uint8Array.of(42);
  const answer = new Uint8Array(1);
  check(Number(libc.write(fd, byte, 1)), "write", { fd });
  check(Number(libc.read(fd, answer, 1)), "read", { fd });
  if (answer[0] !== 42) throw new Error("a materialized socket returned another byte");
}

async function compare(rounds: number, json: string | undefined): Promise<void> {
  const server = fork(fileURLToPath(import.meta.url), ["--serve"]);
  const [port] = (await once(server, "message")) as [number];
  const table = new EntryTable();
  const signal = KeeperSignal.newBuffer();
  const keeper = new Keeper(table, signal, silent);
  const share = keeper.addPool({
    id: 1,
    upstream: "bench",
    server: { address: HOST, port },
    min: PER_ROUND,
    max: 2 * PER_ROUND,
    maxSynRate: 100_000,
    maxAgeMs: 60_000,
  });
  const shared = { table, wire: new HandshakeWire(table), signal: new KeeperSignal(signal, keeper.wakeFd) };
  const taker = new Taker(share, shared, [{ level: IPPROTO_TCP, name: TCP_NODELAY, value: 1 }], 0);
  const sockaddr = encodeSockaddr({ address: HOST, port });
  const [materialize, connect, route]: [number[], number[], number[]] = [[], [], []];
  const taken: Lease[] = [];
  const connected: Fd[] = [];
  for (let round = 0; round < rounds + WARM_UP_ROUNDS; round++) {
    const deadline = nowMs() + 5_000;
    for (keeper.step(); taker.block.get("ready") < PER_ROUND; keeper.step()) {
      if (nowMs() > deadline) throw new Error("the pool did not fill");
      keeper.wait();
    }
    const counted = round >= WARM_UP_ROUNDS;
    for (let index = 0; index < PER_ROUND / 2; index++) {
      measure(counted ? materialize : [], () => {
        const lease = taker.take();
        if (!lease) throw new Error("no half-open was ready");
        taken.push(lease);
      });
      measure(counted ? connect : [], () => {
        const fd = newTcpSocket(4, 0);
        check(libc.connect(fd.number, sockaddr, sockaddr.length), "connect", { port });
        connected.push(fd);
      });
      measure(counted ? route : [], () => probeRoute(Uint8Array.of(127, 0, 0, 1), port));
    }
    for (const lease of taken.splice(0)) {
      assertEcho(lease.fd);
      libc.close(lease.fd);
      taker.finish(lease, "passive");
    }
    for (const fd of connected.splice(0)) fd.close();
  }
  keeper.close();
  server.disconnect();
  report(
    [
      { case: "materialize", metric: "cpu", unit: "us", samples: materialize },
      { case: "connect on loopback, server's side included", metric: "cpu", unit: "us", samples: connect },
      { case: "socket, connect in repair mode, close", metric: "cpu", unit: "us", samples: route },
    ],
    json,
  );
}

function report(rows: readonly Row[], json: string | undefined): void {
  console.log(`${"case".padEnd(46)} ${"n".padStart(6)} ${"p50 µs".padStart(8)} ${"p99 µs".padStart(8)}`);
  for (const { case: name, samples } of rows) {
    const [p50, p99] = [percentile(samples, 0.5), percentile(samples, 0.99)];
    console.log(
      `${name.padEnd(46)} ${String(samples.length).padStart(6)} ${p50.toFixed(1).padStart(8)} ${p99.toFixed(1).padStart(8)}`,
    );
  }
  if (json !== undefined) writeFileSync(json, `${JSON.stringify({ name: "materialize", rows }, null, 1)}\n`);
}

const { values } = parseArgs({
  options: {
    serve: { type: "boolean", default: false },
    rounds: { type: "string", default: "200" },
    json: { type: "string" },
  },
});
if (values.serve) await serve();
else await compare(Number(values.rounds), values.json);
