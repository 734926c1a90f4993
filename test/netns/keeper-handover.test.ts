// Goal: half-opens and leases go from one keeper to another as they are: the upstream sees no packet of it.
// Method: two keeper threads as two processes would have them, reservations duplicated in between, on the loopback of
// a namespace of our own, whose sockets ss(8) lists.
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_CLOEXEC } from "../../native/abi/socket.ts";
import { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { PollSet } from "../../native/net/poll-set.ts";
import { listenTcp, localEndpoint } from "../../native/net/tcp-socket.ts";
import { EntryTable } from "../../pool/entry-table.ts";
import type { KeeperRecord } from "../../pool/handover.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import type { HearingKind } from "../../pool/hearing.ts";
import { KeeperHandle } from "../../pool/keeper-handle.ts";
import { PoolBlock, type PoolShare } from "../../pool/pool-block.ts";
import { KeeperSignal } from "../../pool/signal.ts";
import { Taker } from "../../pool/taker.ts";
import { onlyFor } from "./half-open.ts";

const MIN = 4;
const EXCHANGE_MS = 5_000;
const log = pino({ level: "silent" });
const onCrash = (error: Error): never => {
  throw error;
};

/** Ports of half-opens at the upstream, sorted. */
function halfOpens(): string[] {
  const { stdout } = spawnSync("ss", ["-tanH", "state", "syn-recv"], { encoding: "utf8" });
  return stdout
    .split("\n")
    .filter(Boolean)
    .map((line) => line.trim().split(/\s+/).at(-1)!)
    .sort();
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const endsAt = performance.now() + 3_000;
  while (!holds()) {
    if (performance.now() > endsAt) throw new Error(`not within 3 s: ${what}`);
    await sleep(5);
  }
}

interface Side {
  readonly keeper: KeeperHandle;
  readonly share: PoolShare;
  readonly block: PoolBlock;
  readonly taker: Taker;
  close(): Promise<void>;
}

async function start(
  upstream: Fd,
  hearing: HearingKind,
  more: { readonly isHeld?: boolean; readonly secret?: Uint8Array } = {},
): Promise<Side> {
  const keeper = await KeeperHandle.start("silent", log, onCrash, { hearing, ...more });
  const server = localEndpoint(upstream.number);
  const spec = { upstream: "o", server, min: MIN, max: 16, maxSynRate: 1_000, maxAgeMs: 60_000 };
  const share = await keeper.addPool(spec);
  const table = new EntryTable(keeper.share.table);
  const wire = new HandshakeWire(table);
  const signal = new KeeperSignal(keeper.share.signal, keeper.share.wakeFd);
  let isClosed = false;
  const side: Side = {
    keeper,
    share,
    block: new PoolBlock(share.max, share.buffer),
    taker: new Taker(share, { table, wire, signal }, [], 0),
    close: async () => {
      if (isClosed) return;
      isClosed = true;
      wire.close();
      await keeper.stop();
    },
  };
  sides.push(side);
  return side;
}

/** Started in the test that runs; one that fails leaves none of them, nor their ports, to the next. */
const sides: Side[] = [];

/** The record as another process would have it: descriptors of its own. */
function received(record: KeeperRecord): KeeperRecord {
  const ports = record.ports.map(({ number, fd }) => {
    const borrowed = new Fd(fd);
    const own = borrowed.duplicate().release();
    borrowed.release();
    return { number, fd: own };
  });
  return { ...structuredClone(record), ports };
}

/** Bytes both ways. Waits are bounded: a connection the upstream does not know would bring nothing, ever. */
function exchange(number: number, upstream: Fd): void {
  using ours = new Fd(number);
  libc.sendto(number, Buffer.from("x"), 1, MSG_NOSIGNAL, null, 0);
  awaitInput(upstream, "a connection");
  using accepted = new Fd(libc.accept4(upstream.number, null, null, SOCK_CLOEXEC));
  awaitInput(accepted, "a request");
  assert.is(Number(libc.recv(accepted.number, Buffer.alloc(1), 1, 0)), 1);
  libc.sendto(accepted.number, Buffer.from("y"), 1, MSG_NOSIGNAL, null, 0);
  awaitInput(ours, "an answer");
  assert.is(Number(libc.recv(number, Buffer.alloc(1), 1, 0)), 1);
}

function awaitInput(fd: Fd, what: string): void {
  using waiting = new PollSet([fd]);
  if (waiting.wait(EXCHANGE_MS) === 0) throw new Error(`not within ${EXCHANGE_MS} ms: ${what}`);
}

for (const hearing of ["raw", "bpf", "steered"] as const) {
  const handover = suite<{ upstream: Fd; old: Side }>(`keeper handover, ${hearing}`);
  const test = onlyFor(hearing, handover);

  handover.before.each(async (context) => {
    context.upstream = listenTcp({ address: "127.0.0.1", port: 0 }, 64);
    if (hearing !== "raw" && test === handover.skip) return;
    context.old = await start(context.upstream, hearing);
    await until("a full pool", () => context.old.block.get("ready") >= MIN);
  });

  handover.after.each(async ({ upstream }) => {
    for (const side of sides.splice(0)) await side.close();
    upstream.close();
  });

  test("given half-opens and a lease, then the next keeper goes on with both", async ({ old, upstream }) => {
    const lease = old.taker.take();
    assert.ok(lease);
    await until("full again", () => old.block.get("ready") >= old.block.get("target"));
    const next = await start(upstream, hearing, { isHeld: true, secret: old.keeper.secret });
    const record = await old.keeper.handOver();
    // Until then the old keeper goes on as ever, and may exchange one for another. The leased one is a socket of ours: it
    // answers the SYN-ACK that the upstream repeats after a second, and is no half-open any more.
    const leased = `127.0.0.1:${portOf(record, lease!.entry)}`;
    const before = halfOpens().filter((port) => port !== leased);
    const known = record.pools.flatMap(({ entries }) => entries.map(({ port }) => `127.0.0.1:${port}`));
    assert.ok(before.length >= MIN, `${before.length} half-opens`);
    assert.equal(
      before.filter((port) => !known.includes(port)),
      [],
      "each is in the record",
    );
    assert.is(old.taker.take(), undefined, "it offers nothing any more");
    await next.keeper.adopt(received(record));
    await old.close();
    const after = halfOpens();
    assert.equal(
      before.filter((port) => !after.includes(port)),
      [],
      "no RST",
    );
    // It may fill up to its target, but what it was given serves.
    assert.ok(next.block.get("opened") < MIN, `${next.block.get("opened")} opened`);
    assert.ok(next.block.get("ready") >= MIN, `${next.block.get("ready")} ready`);
    const adopted = next.taker.adopt(lease!.fd, {
      entry: lease!.entry,
      port: portOf(record, lease!.entry),
      verdict: "none",
    });
    assert.ok(adopted, "the lease is known");
    exchange(lease!.fd, upstream);
    next.taker.finish(adopted!, "active");
    const taken = next.taker.take();
    assert.ok(taken, "a half-open can be taken");
    exchange(taken!.fd, upstream);
    next.taker.finish(taken!, "active");
    await sleep(1_200);
    assert.ok(next.block.get("refreshed") >= MIN, `${next.block.get("refreshed")} refreshed`);
    assert.is(next.block.get("tainted"), 0);
    assert.is(next.block.get("vanished"), 0);
    await next.close();
    await until("given up at the end", () => halfOpens().length === 0);
  });

  test("given a handover that came to nothing, then the keeper begins anew", async ({ old }) => {
    const before = halfOpens();
    await old.keeper.handOver();
    old.keeper.takeBack();
    await until("a new pool", () => old.block.get("ready") >= MIN && old.block.get("released") >= MIN);
    assert.not.equal(halfOpens(), before);
    const lease = old.taker.take();
    assert.ok(lease);
    libc.recv(lease!.fd, Buffer.alloc(1), 1, MSG_DONTWAIT);
    libc.close(lease!.fd);
    old.taker.finish(lease!, "unused");
    await old.close();
    await until("given up at the end", () => halfOpens().length === 0);
  });

  test("given a lease that ended with the old process, then its port is free again later", async ({
    old,
    upstream,
  }) => {
    const lease = old.taker.take()!;
    const next = await start(upstream, hearing, { isHeld: true, secret: old.keeper.secret });
    await next.keeper.adopt(received(await old.keeper.handOver()));
    libc.close(lease.fd);
    await old.close();
    const counts = { hits: 5, misses: 1, replays: 0, opened: 9, refreshed: 0, tainted: 0, vanished: 0 };
    const { upstream: name, server } = next.share;
    next.keeper.settle({
      endedLeases: [lease.entry],
      counts: [
        {
          upstream: name,
          server,
          counts: { ...counts, refused: 0, released: 0, cookieSightings: 0, blackholes: 0, syns: 0 },
        },
      ],
    });
    await until("counted on", () => next.block.get("hits") === 5);
    assert.is(new EntryTable(next.keeper.share.table).state(lease.entry), "resting");
    assert.ok(next.block.get("target") <= 2 * MIN + 5, "counts are no clients");
    await next.close();
  });
  handover.run();
}

function portOf(record: KeeperRecord, entry: number): number {
  for (const { entries } of record.pools) {
    for (const { index, port } of entries) if (index === entry) return port;
  }
  throw new Error(`entry ${entry} was not handed over`);
}
