// Goal: what must be provable never rides on a half-open whose SYN is on its way again.
// Method: a pool of one half-open in a namespace of our own; its refreshes are dropped before they reach the upstream, so
// that a SYN stays on its way until the entry is too old to be taken.
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { test } from "uvu";
import * as assert from "uvu/assert";
import type { LeasedSocket } from "../../library/leased-socket.ts";
import { Server } from "../../library/server.ts";
import { ageMs32 } from "../../native/clock.ts";
import { libc } from "../../native/libc.ts";
import { listenTcp, localEndpoint } from "../../native/net/tcp-socket.ts";
import { ENTRY, EntryTable } from "../../pool/entry-table.ts";
import { HandshakeWire } from "../../pool/handshake-wire.ts";
import { KeeperHandle } from "../../pool/keeper-handle.ts";
import { KeeperSignal } from "../../pool/signal.ts";
import { type Lease, Taker } from "../../pool/taker.ts";

const TRIES = 10;
const LIMIT_MS = 3_000;

function nft(commands: string): void {
  const { status, stderr } = spawnSync("nft", ["-f", "-"], { input: commands, encoding: "utf8" });
  assert.is(status, 0, stderr);
}

test("given a half-open that is being refreshed, then only who needs no proof gets it", async () => {
  const log = pino({ level: "silent" });
  using upstream = listenTcp({ address: "127.0.0.1", port: 0 }, 64);
  const endpoint = localEndpoint(upstream.number);
  const keeper = await KeeperHandle.start("silent", log, (error) => {
    throw error;
  });
  const spec = { upstream: "o", server: endpoint, min: 1, max: 1, maxSynRate: 1_000, maxAgeMs: 60_000 };
  const share = await keeper.addPool(spec);
  const table = new EntryTable(keeper.share.table);
  const wire = new HandshakeWire(table);
  const signal = new KeeperSignal(keeper.share.signal, keeper.share.wakeFd);
  const taker = new Taker(share, { table, wire, signal }, [], 0);
  const server = new Server(taker, () => {});
  const give = (lease: Lease): void => {
    libc.close(lease.fd);
    taker.finish(lease, "unused");
  };
  const isRefreshing = (entry: number): boolean =>
    table.state(entry) === "ready" &&
    ageMs32(table.get(entry, ENTRY.synAt), table.get(entry, ENTRY.synackAt)) > 0;
  let outcome:
    | { readonly withProof: LeasedSocket | undefined; readonly without: Lease | undefined }
    | undefined;
  for (let turn = 0; turn < TRIES && outcome?.without === undefined; turn++) {
    while (taker.block.get("ready") === 0) await sleep(5);
    nft(`add table inet t; add chain inet t in { type filter hook input priority 0; };
      add rule inet t in tcp dport ${endpoint.port} tcp flags == syn drop`);
    const endsAt = performance.now() + 1_500;
    while (performance.now() < endsAt && outcome?.without === undefined) {
      await sleep(1);
      for (let entry = 0; entry < table.capacity; entry++) {
        if (!isRefreshing(entry)) continue;
        const withProof = server.take(LIMIT_MS); // the library and http mode
        outcome = { withProof, without: taker.take() };
        break;
      }
    }
    nft("delete table inet t");
  }
  assert.ok(outcome?.without, "never seen while it was refreshed");
  assert.is(outcome.withProof, undefined);
  give(outcome.without);
  while (taker.block.get("ready") === 0) await sleep(5);
  const answered = taker.take(true);
  assert.ok(answered, "an answered one proves what is needed");
  give(answered);
  wire.close();
  await keeper.stop();
});

test.run();
