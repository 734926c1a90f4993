/** Connections that stream both ways over the lab while one end is checkpointed and restored again and again. */
import { Lab } from "../../bench/lab/lab.ts";
import { SOCK_CLOEXEC, SOCK_NONBLOCK } from "../../native/abi/socket.ts";
import { encodeSockaddr } from "../../native/address.ts";
import { check } from "../../native/errno.ts";
import type { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import {
  discard,
  dump,
  freeze,
  type Held,
  NftGuard,
  RepairError,
  RepairKit,
  restore,
  resume,
} from "../../native/repair/repair.ts";
import { Stream } from "../netns/repair-pairs.ts";
import type { Watched } from "./repair-watch.ts";

const RTT_MS = 2;
const PATIENCE_MS = 20_000;
const CHUNK = 65_536;

/** A connection from a socket of `far` to one of `near`, and what went both ways. */
export interface Line {
  ours: number;
  readonly theirs: Fd;
  readonly up: Stream;
  readonly down: Stream;
}

export interface Streamed extends Partial<Omit<Watched, "segments">> {
  readonly segments: number;
  /** Bytes of all streams, both directions. */
  readonly bytes: number;
  /** Connections whose bytes did not all arrive, or that ended. */
  readonly unfinished: number;
  /** From freeze to resume of all connections, ms, one per checkpoint. */
  readonly pausesMs: readonly number[];
  readonly guardLeft: number;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function taken(results: readonly (Held | RepairError)[]): Held[] {
  return results.map((result) => {
    if (result instanceof RepairError) throw result;
    return result;
  });
}

/** Opens connections from `far` to `near`, over both families in turn. */
export async function openLines(lab: Lab, count: number, rttMs: number): Promise<Line[]> {
  const [near, far] = [lab.host("near"), lab.host("far")];
  const lines: Line[] = [];
  for (let index = 0; index < count; index++) {
    const family = index % 2 === 0 ? 4 : 6;
    using listener = near.enter(() => listenTcp({ address: near.address(family), port: 0 }, 1));
    const theirs = far.enter(() => newTcpSocket(family, SOCK_NONBLOCK));
    const address = encodeSockaddr(localEndpoint(listener.number));
    libc.connect(theirs.number, address, address.length); // EINPROGRESS
    await sleep(2 * rttMs + 1);
    const ours = check(
      libc.accept4(listener.number, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK),
      "accept4",
      {},
    );
    lines.push({ ours, theirs, up: new Stream(1), down: new Stream(2) });
  }
  return lines;
}

function pump({ ours, theirs, up, down }: Line, writing: boolean): void {
  if (writing) {
    up.write(ours, CHUNK);
    down.write(theirs.number, CHUNK);
  }
  up.drain(theirs.number);
  down.drain(ours);
}

const isDone = ({ up, down }: Line): boolean => up.read === up.written && down.read === down.written;

/**
 * Streams at full speed; at `checkpoints` random moments all connections are frozen, dumped, closed, restored and
 * resumed. Throws when a byte is wrong.
 */
export async function streamThroughCheckpoints(connections: number, checkpoints: number): Promise<Streamed> {
  await using lab = await Lab.create({
    hosts: ["near", "far"],
    links: [{ between: ["near", "far"], rttMs: RTT_MS }],
  });
  const near = lab.host("near");
  const link = lab.link();
  await link.setFilter({ module: new URL("./repair-watch.ts", import.meta.url), export: "watch" });
  const lines = await openLines(lab, connections, RTT_MS);
  const guard = near.enter(() => new NftGuard());
  using kit = near.enter(() => new RepairKit(guard));
  const pausesMs: number[] = [];
  for (let round = 0; round < checkpoints; round++) {
    const until = performance.now() + 100 + Math.random() * 300;
    while (performance.now() < until) {
      for (const line of lines) pump(line, true);
      await sleep(0);
    }
    const before = performance.now();
    near.enter(() => {
      const held = taken(
        freeze(
          kit,
          lines.map(({ ours }) => ours),
        ),
      );
      const images = held.map((one) => dump(one));
      discard(held);
      const back = taken(restore(kit, images, SOCK_NONBLOCK));
      resume(kit, back);
      for (const [index, { fd }] of back.entries()) lines[index]!.ours = fd;
    });
    pausesMs.push(performance.now() - before);
  }
  const end = performance.now() + PATIENCE_MS;
  while (!lines.every(isDone) && performance.now() < end) {
    for (const line of lines) pump(line, false);
    await sleep(1);
  }
  const { state } = await link.counters();
  const unfinished = lines.filter((line) => !isDone(line) || line.up.ended || line.down.ended).length;
  const bytes = lines.reduce((sum, { up, down }) => sum + up.read + down.read, 0);
  const guardLeft = near.enter(() => guard.list()).length;
  for (const { ours, theirs } of lines) {
    libc.close(ours);
    theirs.close();
  }
  guard.close();
  return { ...(state as unknown as Watched), bytes, unfinished, pausesMs, guardLeft };
}
