// Goal: what cannot be frozen or restored is refused with its reason and left as it was; socket options, the choice
// of the port and SYN_SENT come back; an abandoned freeze leaves a connection as it was. Nothing is left in the guard.
// Method: sockets of the loopback in a namespace of our own.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import * as so from "../../native/abi/socket.ts";
import * as tcp from "../../native/abi/tcp.ts";
import { encodeSockaddr } from "../../native/address.ts";
import { check } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { NftGuard } from "../../native/guard/guard.ts";
import { libc } from "../../native/libc.ts";
import { setMtu } from "../../native/net/interface.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import type { TcpImage } from "../../native/repair/image.ts";
import { optionOps } from "../../native/repair/ops.ts";
import { isPortChosen } from "../../native/repair/port.ts";
import {
  abandon,
  discard,
  dump,
  freeze,
  type Held,
  type OptionValue,
  RepairError,
  RepairKit,
  restore,
  resume,
} from "../../native/repair/repair.ts";
import { applyOps } from "../../native/repair/restore.ts";
import { getTcpInfo } from "../../native/sockopt.ts";
import { type Pair, PairMaker } from "./repair-pairs.ts";

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Context {
  maker: PairMaker;
  guard: NftGuard;
  kit: RepairKit;
}

function only(results: readonly (Held | RepairError)[]): Held {
  const [result] = results;
  if (result instanceof RepairError) throw result;
  return result!;
}

const refusal = (results: readonly (Held | RepairError)[]): string => {
  const [result] = results;
  return result instanceof RepairError ? `${result.code}: ${result.message}` : "none";
};

/** Takes the connection away and returns its image. */
function takeAway(kit: RepairKit, pair: Pair, known = {}): TcpImage {
  const held = only(freeze(kit, [pair.ours.number]));
  const image = dump(held, known);
  discard([held]);
  pair.ours.release();
  return image;
}

function putBack(kit: RepairKit, pair: Pair, image: TcpImage): void {
  const held = only(restore(kit, [image]));
  resume(kit, [held]);
  pair.ours = new Fd(held.fd);
}

/** A word each way arrives. */
async function assertTalks(pair: Pair): Promise<void> {
  pair.upstream.write(pair.ours.number, 1_000);
  pair.downstream.write(pair.theirs.number, 1_000);
  for (let tries = 0; tries < 200 && !pair.drain(); tries++) await sleep(5);
  assert.ok(pair.drain());
}

const tests = suite<Context>("repair: verbs");

/** A test after which nothing is in the guard. */
function verbs(name: string, act: (context: Context) => Promise<void> | void): void {
  tests(name, async (context) => {
    await act(context);
    assert.equal(context.guard.list(), []);
  });
}

tests.before((context) => {
  setMtu("lo", 1_500);
  context.maker = new PairMaker();
  context.guard = new NftGuard();
  context.kit = new RepairKit(context.guard);
});

tests.after(({ maker, guard, kit }) => {
  kit.close();
  guard.close();
  maker[Symbol.dispose]();
});

const unconnected = (protocol: number): Fd =>
  new Fd(check(libc.socket(so.AF_INET, so.SOCK_STREAM, protocol), "socket", { protocol }));
for (const [given, open, want] of [
  ["a listener", () => listenTcp({ address: "127.0.0.1", port: 0 }, 1), /^ACCEL_REPAIR_STATE: .* LISTEN/],
  ["a new socket", () => unconnected(0), /^ACCEL_REPAIR_STATE: .* CLOSE/],
  ["MPTCP", () => unconnected(so.IPPROTO_MPTCP), /^ACCEL_REPAIR_UNSUPPORTED: .* MPTCP/],
  [
    "a datagram socket",
    () => new Fd(check(libc.socket(so.AF_INET, so.SOCK_DGRAM, 0), "socket", {})),
    /^ACCEL_REPAIR_UNSUPPORTED: .* not TCP/,
  ],
] as const) {
  verbs(`given ${given}, then freezing refuses it`, ({ kit }) => {
    using fd = open();
    assert.match(refusal(freeze(kit, [fd.number])), want);
  });
}

verbs("given a connection both sides have ended, then TIME_WAIT cannot be frozen", async ({ kit, maker }) => {
  using pair = maker.connect(4);
  libc.shutdown(pair.ours.number, so.SHUT_WR);
  libc.shutdown(pair.theirs.number, so.SHUT_WR);
  await sleep(5);
  assert.match(refusal(freeze(kit, [pair.ours.number])), /^ACCEL_REPAIR_STATE/);
});

verbs("given one that cannot be frozen among others, then the others are", async ({ kit, maker }) => {
  using pair = maker.connect(4);
  using fd = unconnected(0);
  const [refused, held] = freeze(kit, [fd.number, pair.ours.number]);
  assert.ok(refused instanceof RepairError && !(held instanceof RepairError));
  abandon(kit, [held as Held]);
  await assertTalks(pair);
});

verbs("given an abandoned freeze, then options and bytes are as they were", async ({ kit, maker }) => {
  using pair = maker.connect(6);
  const reuse: OptionValue[] = [{ name: "SO_REUSEADDR", value: 1 }];
  applyOps(pair.ours.number, optionOps(reuse, "repair"));
  pair.downstream.write(pair.theirs.number, 5_000);
  const held = only(freeze(kit, [pair.ours.number]));
  dump(held);
  pair.downstream.write(pair.theirs.number, 5_000); // into the guard
  await sleep(250); // and its peer's first retransmission too
  abandon(kit, [held]);
  assert.is(getTcpInfo(pair.ours.number).state, tcp.TCP_ESTABLISHED);
  await assertTalks(pair);
  const again = only(freeze(kit, [pair.ours.number]));
  assert.equal(again.later, reuse);
  abandon(kit, [again]);
});

const OPTIONS: readonly OptionValue[] = [
  { name: "IP_TOS", value: 0x10 },
  { name: "IP_TTL", value: 33 },
  { name: "IP_MTU_DISCOVER", value: 2 },
  { name: "SO_MARK", value: 77 },
  { name: "SO_PRIORITY", value: 0 },
  { name: "SO_KEEPALIVE", value: 1 },
  { name: "SO_OOBINLINE", value: 1 },
  { name: "SO_DONTROUTE", value: 1 },
  { name: "SO_LINGER", value: 7 },
  { name: "SO_BINDTODEVICE", value: "lo" },
  { name: "IP_TRANSPARENT", value: 1 },
  { name: "IP_FREEBIND", value: 1 },
  { name: "TCP_CONGESTION", value: "reno" },
  { name: "TCP_NODELAY", value: 1 },
  { name: "TCP_CORK", value: 1 },
  { name: "TCP_KEEPIDLE", value: 11 },
  { name: "TCP_KEEPINTVL", value: 12 },
  { name: "TCP_KEEPCNT", value: 13 },
  { name: "TCP_SYNCNT", value: 3 },
  { name: "TCP_LINGER2", value: 14 },
  { name: "TCP_USER_TIMEOUT", value: 15_000 },
  { name: "TCP_NOTSENT_LOWAT", value: 16_000 },
  { name: "SO_RCVLOWAT", value: 2 },
  { name: "SO_SNDBUF", value: 200_000 },
  { name: "SO_RCVBUF", value: 300_000 },
  { name: "SO_BUF_LOCK", value: 2 },
  { name: "TCP_WINDOW_CLAMP", value: 50_000 },
  { name: "SO_REUSEADDR", value: 1 },
  { name: "SO_REUSEPORT", value: 1 },
  { name: "TCP_QUICKACK", value: 0 },
];

verbs("given every option at a value of its own, then the restored socket has them all", ({ kit, maker }) => {
  using pair = maker.connect(4);
  for (const moment of ["connect", "queues", "window", "repair"] as const) {
    applyOps(pair.ours.number, optionOps(OPTIONS, moment));
  }
  const image = takeAway(kit, pair);
  const saved = Object.fromEntries(image.live!.options.map(({ name, value }) => [name, value]));
  for (const { name, value } of OPTIONS) assert.is(saved[name], value, name);
  putBack(kit, pair, image);
  const again = takeAway(kit, pair);
  kit.guard.remove([again]);
  const text = ({ live }: TcpImage): string =>
    live!.options.map(({ name, value }) => `${name} ${value}`).join("\n");
  assert.is(text(again), text(image));
});

verbs("given options known from a like connection, then the same image", ({ kit, maker }) => {
  using pair = maker.connect(4);
  const held = only(freeze(kit, [pair.ours.number]));
  const { tsval: _, ...whole } = dump(held);
  const { tsval: __, ...quick } = dump(held, { options: whole.live!.options });
  assert.equal(quick, whole);
  abandon(kit, [held]);
});

for (const family of [4, 6] as const) {
  verbs(
    `given a port the kernel chose over IPv${family}, then the restored one is still shared`,
    async ({ kit, maker }) => {
      using pair = maker.connect(family);
      const held = only(freeze(kit, [pair.ours.number]));
      assert.ok(isPortChosen(held));
      const image = dump(held, { portChosen: true });
      discard([held]);
      pair.ours.release();
      putBack(kit, pair, image);
      await assertTalks(pair);
      const again = only(freeze(kit, [pair.ours.number]));
      assert.ok(isPortChosen(again));
      const bound = dump(again);
      discard([again]);
      pair.ours.release();
      putBack(kit, pair, bound);
      const last = only(freeze(kit, [pair.ours.number]));
      assert.not(isPortChosen(last), "bound explicitly");
      abandon(kit, [last]);
    },
  );
}

verbs(
  "given a port outside the kernel's choice, then it is restored all the same",
  async ({ kit, maker }) => {
    using pair = maker.connect(4);
    const image = takeAway(kit, pair);
    const port = 1_111;
    const moved = { ...image, local: { ...image.local, port }, live: { ...image.live!, portChosen: true } };
    const held = only(restore(kit, [moved]));
    assert.is(localEndpoint(held.fd).port, port);
    discard([held]);
    kit.guard.remove([image, moved]);
  },
);

verbs("given a connection that exists, then restoring it again fails alone", async ({ kit, maker }) => {
  using pair = maker.connect(4);
  using other = maker.connect(4);
  const [held, second] = freeze(kit, [pair.ours.number, other.ours.number]) as Held[];
  const images = [dump(held!), dump(second!)];
  discard([second!]);
  other.ours.release();
  const [failed, back] = restore(kit, images);
  assert.match(refusal([failed!]), /^ACCEL_REPAIR_ADDRESS: .* exists|has such a connection/);
  resume(kit, [only([back!])]);
  other.ours = new Fd((back as Held).fd);
  await assertTalks(other);
  abandon(kit, [held!]);
  await assertTalks(pair);
});

verbs("given a local address of another host, then restoring says so", ({ kit, maker }) => {
  using pair = maker.connect(4);
  const image = takeAway(kit, pair);
  const elsewhere = { ...image, local: { ...image.local, address: Uint8Array.of(192, 0, 2, 1) } };
  assert.match(refusal(restore(kit, [elsewhere])), /^ACCEL_REPAIR_ADDRESS: .* local address/);
  kit.guard.remove([image]);
});

verbs("given SYN_SENT, then it connects with the same iss", async ({ kit, maker }) => {
  using listener = listenTcp({ address: "127.0.0.1", port: 0 }, 1);
  const ours = newTcpSocket(4, so.SOCK_NONBLOCK);
  const address = encodeSockaddr(localEndpoint(listener.number));
  maker.deafenTo(localEndpoint(listener.number).port);
  libc.connect(ours.number, address, address.length);
  const held = only(freeze(kit, [ours.number]));
  const image = dump(held);
  assert.is(image.live!.state, "SYN_SENT");
  discard([held]);
  ours.release();
  const back = only(restore(kit, [image], so.SOCK_NONBLOCK));
  const { live, snd_una } = dump(back);
  assert.equal([live!.state, snd_una], ["SYN_SENT", image.snd_una]);
  resume(kit, [back]);
  maker.undeafen();
  for (let tries = 0; tries < 400 && getTcpInfo(back.fd).state === tcp.TCP_SYN_SENT; tries++) await sleep(5);
  assert.is(getTcpInfo(back.fd).state, tcp.TCP_ESTABLISHED);
  libc.close(back.fd);
});

tests.run();
