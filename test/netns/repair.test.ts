// Goal: a connection in any state, with any queues, is dumped and restored without either side noticing, and the
// restored socket's image is the original's.
// Method: all combinations at once on the loopback of a namespace of our own, whose MTU is an Ethernet's. First
// only one end is restored, where it was; then both, in another namespace. Bytes tell their position.
import { createHash } from "node:crypto";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Fd } from "../../native/fd.ts";
import { NftGuard } from "../../native/guard/guard.ts";
import { bringUp, setMtu } from "../../native/net/interface.ts";
import { NetworkNamespace } from "../../native/net/netns.ts";
import { TCP_STATES, type TcpImage } from "../../native/repair/image.ts";
import {
  discard,
  dump,
  freeze,
  type Held,
  RepairError,
  RepairKit,
  restore,
  resume,
} from "../../native/repair/repair.ts";
import { type Fill, NEGOTIATIONS, type Pair, PairMaker, sysctl } from "./repair-pairs.ts";

const STATES = TCP_STATES.filter((state) => state !== "SYN_SENT");
const FILLS: readonly Fill[] = ["empty", "half", "full"];
const MTU = 1_500;
const PATIENCE_MS = 20_000;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function taken(results: readonly (Held | RepairError)[]): Held[] {
  return results.map((result) => {
    if (result instanceof RepairError) throw result;
    return result;
  });
}

const digest = (bytes: Uint8Array): string =>
  `${bytes.length} ${createHash("sha256").update(bytes).digest("hex")}`;

/**
 * All but the clock, with queues short enough to print. Without timestamps mss_cache counts on 12 bytes of options
 * that connect() expected; what tcp_current_mss() makes of it for each segment is the same.
 */
function comparable({ tsval, live, ...image }: TcpImage): unknown {
  const { received, sent, unsent, ...rest } = { ...live!, ...(tsval === undefined ? { mss: 0 } : {}) };
  const queues = { received: digest(received), sent: digest(sent), unsent: digest(unsent) };
  return { ...image, ...rest, ...queues, timestamps: tsval === undefined ? "none" : tsval & 1 };
}

interface Case {
  readonly name: string;
  readonly pair: Pair;
}

function makeAll(maker: PairMaker): Case[] {
  return STATES.flatMap((state) =>
    ([4, 6] as const).flatMap((family) =>
      NEGOTIATIONS.flatMap((negotiation) =>
        FILLS.map((fill): Case => {
          const agreed = Object.entries(negotiation).flatMap(([name, on]) => (on ? [name] : []));
          const name = `${state} IPv${family} [${agreed.join(" ")}] queues ${fill}`;
          return { name, pair: maker.make(state, family, negotiation, fill) };
        }),
      ),
    ),
  );
}

/** Freezes, dumps and closes; returns the images. */
function takeAway(kit: RepairKit, fds: readonly Fd[]): TcpImage[] {
  const held = taken(
    freeze(
      kit,
      fds.map((fd) => fd.number),
    ),
  );
  const images = held.map((one) => dump(one));
  for (const fd of fds) fd.release();
  discard(held);
  return images;
}

/** Restores images, compares what they are dumped as, and lets them go on. Returns the sockets. */
function putBack(kit: RepairKit, images: readonly TcpImage[], names: readonly string[]): Fd[] {
  const held = taken(restore(kit, images));
  for (const [index, one] of held.entries()) {
    assert.equal(comparable(dump(one)), comparable(images[index]!), names[index]);
  }
  resume(kit, held);
  return held.map(({ fd }) => new Fd(fd));
}

async function arrived(cases: readonly Case[]): Promise<void> {
  const end = performance.now() + PATIENCE_MS;
  let left = cases;
  while (left.length > 0 && performance.now() < end) {
    left = left.filter(({ name, pair }) => {
      try {
        return !pair.drain();
      } catch (error) {
        throw new Error(name, { cause: error });
      }
    });
    if (left.length > 0) await sleep(5);
  }
  assert.equal(
    left.map(({ name }) => name),
    [],
  );
}

const repair = suite("repair");

repair.before(() => {
  setMtu("lo", MTU);
  sysctl("tcp_rmem", "4096 131072 262144");
  sysctl("tcp_wmem", "4096 65536 262144");
});

repair("given every state, family, negotiation and fill, then restored where it was it goes on", async () => {
  using maker = new PairMaker();
  using guard = new NftGuard();
  using kit = new RepairKit(guard);
  const cases = makeAll(maker);
  const names = cases.map(({ name }) => name);
  const images = takeAway(
    kit,
    cases.map(({ pair }) => pair.ours),
  );
  for (const [index, { state }] of cases.map(({ pair }) => pair).entries()) {
    assert.is(images[index]!.live!.state, state, names[index]);
  }
  for (const [index, fd] of putBack(kit, images, names).entries()) cases[index]!.pair.ours = fd;
  maker.undeafen();
  assert.equal(guard.list(), []);
  await arrived(cases);
  for (const { pair } of cases) pair[Symbol.dispose]();
});

repair(
  "given both ends of every such connection, then restored in another namespace they go on",
  async () => {
    using elsewhere = NetworkNamespace.create();
    using maker = new PairMaker();
    using kit = new RepairKit(new NftGuard());
    const cases = makeAll(maker);
    const names = cases.flatMap(({ name }) => [`ours ${name}`, `theirs ${name}`]);
    const images = takeAway(
      kit,
      cases.flatMap(({ pair }) => [pair.ours, pair.theirs]),
    );
    kit.guard.remove(images);
    const fds = elsewhere.enter(() => {
      bringUp("lo");
      setMtu("lo", MTU);
      using there = new RepairKit(new NftGuard());
      return putBack(there, images, names);
    });
    for (const [index, { pair }] of cases.entries()) {
      pair.ours = fds[2 * index]!;
      pair.theirs = fds[2 * index + 1]!;
    }
    await arrived(cases);
    for (const { pair } of cases) pair[Symbol.dispose]();
  },
);

repair.run();
