/**
 * CPU time of building established sockets, measured in this process by the thread's own clock. Prints one line of
 * JSON per observation: { batch, variant, us } for each connection of a batch. Arguments: ROUNDS [C_PROGRAM].
 *
 * connect() on loopback includes the server's side of the handshake, which runs in the same thread; "connect() in
 * repair mode" is the kernel's own part of a connect without it. take() is the whole way of the product: claim an
 * offer of the pool, plan, system calls.
 */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { IPPROTO_TCP } from "../../native/abi/socket.ts";
import { TCP_ESTABLISHED, TCP_NODELAY } from "../../native/abi/tcp.ts";
import { encodeSockaddr } from "../../native/address.ts";
import { nowMs, threadCpuUs } from "../../native/clock.ts";
import { check, SyscallError } from "../../native/errno.ts";
import { libc } from "../../native/libc.ts";
import { newTcpSocket, probeRoute } from "../../native/net/tcp-socket.ts";
import { restorePlan } from "../../native/repair/plan.ts";
import { restoreBySyscalls } from "../../native/repair/restore.ts";
import { ChainRestorer } from "../../native/repair/restore-chain.ts";
import { RingUnavailableError } from "../../native/ring/unavailable.ts";
import { getTcpInfo, setLingerZero, setRepair } from "../../native/sockopt.ts";
import { EntryTable } from "../../pool/entry-table.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import { Keeper } from "../../pool/keeper.ts";
import { KeeperSignal } from "../../pool/signal.ts";
import { type Lease, Taker } from "../../pool/taker.ts";
import { imageAt } from "./images.ts";

const HOST = "127.0.0.1";
const BATCHES = [1, 8, 64];
const BATCH_MAX = 64;
const FIRST_PORT = 20_000;
const WARM_UP_ROUNDS = 100;
const FILL_LIMIT_MS = 5_000;
const silent = { debug: () => {}, info: () => {}, warn: () => {} };

/** One way to build sockets: builds `count` of them and returns the CPU time that took, in µs. */
interface Way {
  readonly name: string;
  readonly run: (count: number) => number | Promise<number>;
}

const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);

/** The echo server, a process of its own so that it does not share our thread's clock. */
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

function timed(act: () => void): number {
  const before = threadCpuUs();
  act();
  return threadCpuUs() - before;
}

/** A byte there and back, or from one end of a pair to the other: the sockets are connections. */
function assertPasses(from: number, to: number): void {
  const byte = Uint8Array.of(42);
  const answer = new Uint8Array(1);
  check(Number(libc.write(from, byte, 1)), "write", { from });
  check(Number(libc.read(to, answer, 1)), "read", { to });
  if (answer[0] !== 42) throw new Error("a restored socket returned another byte");
}

/** Ends a connection without a TIME_WAIT, of which this many would use up the ports. */
function abort(fd: number): void {
  setLingerZero(fd);
  libc.close(fd);
}

function closeSilently(fd: number): void {
  const { state } = getTcpInfo(fd);
  if (state !== TCP_ESTABLISHED) throw new Error(`a restored socket is in state ${state}`);
  setRepair(fd, true);
  libc.close(fd);
}

/** Restores from images by `restore`, after one pair of ends has shown that it works. */
function restoring(
  name: string,
  restore: (ports: readonly number[], mirrored: boolean) => readonly number[],
): Way {
  const [near, far] = [restore([FIRST_PORT], false)[0]!, restore([FIRST_PORT], true)[0]!];
  assertPasses(near, far);
  assertPasses(far, near);
  closeSilently(near);
  closeSilently(far);
  return {
    name,
    run(count) {
      const ports = Array.from({ length: count }, (_, index) => FIRST_PORT + index);
      let fds: readonly number[] = [];
      const us = timed(() => {
        fds = restore(ports, false);
      });
      for (const fd of fds) closeSilently(fd);
      return us;
    },
  };
}

const bySyscalls = (): Way =>
  restoring("system calls", (ports, mirrored) =>
    ports.map((port) => restoreBySyscalls(restorePlan(imageAt(port, mirrored)))),
  );

/** Undefined where the kernel lacks what it needs. */
function byChain(): Way | undefined {
  try {
    const restorer = new ChainRestorer(BATCH_MAX);
    return restoring("io_uring chain", (ports, mirrored) =>
      restorer.restore(ports.map((port) => restorePlan(imageAt(port, mirrored)))),
    );
  } catch (error) {
    if (!(error instanceof SyscallError || error instanceof RingUnavailableError)) throw error;
    print({ skipped: "io_uring chain", why: error.message });
    return undefined;
  }
}

function byC(program: string): { way: Way; child: ChildProcess } {
  const child = spawn(program, [], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const run = async (count: number): Promise<number> => {
    child.stdin!.write(`${count} ${FIRST_PORT}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error("the C program ended");
    return Number(value.split(" ")[0]) / 1e3;
  };
  return { way: { name: "C, system calls", run }, child };
}

function byConnect(port: number): Way {
  const sockaddr = encodeSockaddr({ address: HOST, port });
  return {
    name: "connect() on loopback",
    run(count) {
      const fds: number[] = [];
      const us = timed(() => {
        for (let index = 0; index < count; index++) {
          const fd = newTcpSocket(4, 0);
          check(libc.connect(fd.number, sockaddr, sockaddr.length), "connect", { port });
          fds.push(fd.release());
        }
      });
      for (const fd of fds) {
        assertPasses(fd, fd);
        abort(fd);
      }
      return us;
    },
  };
}

const byProbe = (port: number): Way => ({
  name: "connect() in repair mode",
  run: (count) =>
    timed(() => {
      for (let index = 0; index < count; index++) probeRoute(Uint8Array.of(127, 0, 0, 1), port);
    }),
});

/** take() of a pool whose keeper runs in this thread, between the measurements. */
function byPool(port: number): { way: Way; close: () => void } {
  const table = new EntryTable();
  const signal = KeeperSignal.newBuffer();
  const keeper = new Keeper(table, signal, silent);
  const share = keeper.addPool({
    id: 1,
    upstream: "bench",
    server: { address: HOST, port },
    min: BATCH_MAX,
    max: 2 * BATCH_MAX,
    maxSynRate: 100_000,
    maxAgeMs: 60_000,
  });
  const shared = { table, wire: new HandshakeWire(table), signal: new KeeperSignal(signal, keeper.wakeFd) };
  const taker = new Taker(share, shared, [{ level: IPPROTO_TCP, name: TCP_NODELAY, value: 1 }], 0);
  const run = (count: number): number => {
    const deadline = nowMs() + FILL_LIMIT_MS;
    const leases: Lease[] = [];
    let us = 0;
    while (leases.length < count) {
      keeper.step();
      let lease: Lease | undefined;
      const tookUs = timed(() => {
        lease = taker.take();
      });
      if (lease !== undefined) {
        us += tookUs;
        leases.push(lease);
      } else if (nowMs() < deadline) {
        keeper.wait(); // none is ready, or none was refreshed while the others were measured
      } else {
        throw new Error("the pool did not fill");
      }
    }
    for (const lease of leases) {
      assertPasses(lease.fd, lease.fd);
      abort(lease.fd);
      taker.finish(lease, "reset", 1);
    }
    return us;
  };
  return { way: { name: "take() of the pool", run }, close: () => keeper.close() };
}

async function measure(rounds: number, program: string | undefined): Promise<void> {
  const server = fork(fileURLToPath(import.meta.url), ["--serve"]);
  const [port] = (await once(server, "message")) as [number];
  const pool = byPool(port);
  const c = program === undefined ? undefined : byC(program);
  const chain = byChain();
  const ways = [
    bySyscalls(),
    ...(chain ? [chain] : []),
    ...(c ? [c.way] : []),
    pool.way,
    byConnect(port),
    byProbe(port),
  ];
  for (const batch of BATCHES) {
    for (let round = 0; round < rounds + WARM_UP_ROUNDS; round++) {
      for (let turn = 0; turn < ways.length; turn++) {
        const way = ways[(round + turn) % ways.length]!;
        const us = (await way.run(batch)) / batch;
        if (round >= WARM_UP_ROUNDS) print({ batch, variant: way.name, us });
      }
    }
  }
  pool.close();
  c?.child.stdin?.end();
  server.disconnect();
}

const [rounds = "", program] = process.argv.slice(2);
if (rounds === "--serve") await serve();
else await measure(Number(rounds), program);
