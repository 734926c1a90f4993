// Goal: a reserved port is silent about handshakes and answers strays; the handshake socket hears what it should.
// Method: raw segments on the loopback of a namespace of our own, and what the kernel answers to them.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encodeSockaddr } from "../../native/address.ts";
import { check, SyscallError } from "../../native/errno.ts";
import type { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { newTcpSocket, probeRoute, reservePort } from "../../native/net/tcp-socket.ts";
import { getTcpInfo } from "../../native/sockopt.ts";
import { ACK, FIN, PSH, RST, SYN } from "../../native/wire/tcp.ts";
import { openHearing } from "../../pool/hearing.ts";
import { RESERVATIONS_IDLE_MAX } from "../../pool/limits.ts";
import { DestinationPorts, Reservations } from "../../pool/reservations.ts";
import { HalfOpen, hear, ISS, loopback, onlyFor, silent } from "./half-open.ts";

const SYN_OPTIONS = { mss: 65_495, sackPermitted: true, wscale: 7 };
const QUIET_MS = 60;

const reservation = suite("reservation");

const KINDS = ["raw", "bpf", "steered"] as const;
const EACH = KINDS.flatMap((kind) => [
  { kind, family: 4, over: `IPv4, ${kind}` } as const,
  { kind, family: 6, over: `IPv6, ${kind}` } as const,
]);

for (const { kind, family, over } of EACH) {
  for (const [given, flags, answered] of [
    ["a SYN", SYN, false],
    ["a SYN-ACK", SYN | ACK, false],
    ["a bare RST", RST, false],
    ["a RST with ACK", RST | ACK, false],
    ["stray data", PSH | ACK, true],
    ["a stray FIN", FIN | ACK, true],
    ["a stray ACK", ACK, true],
  ] as const) {
    onlyFor(kind, reservation)(`given ${given} over ${over}, then ${answered ? "a RST" : "silence"}`, () => {
      using halfOpen = new HalfOpen(family, kind);
      const target = halfOpen.reserve();
      using _owned = target.fd;
      const { port } = target;
      halfOpen.hearFrom(port);
      halfOpen.hearFrom(halfOpen.reservation.port);
      const address = loopback(family);
      const ends = { src: address, dst: address, sport: halfOpen.reservation.port, dport: port };
      assert.is(
        halfOpen.sender.send({ ...ends, seq: 5, ack: 7_000, flags, window: 1_000, ttl: 64, options: {} }),
        0,
      );
      // The raw socket hears our own SYN-ACK or RST too, as it passes the loopback.
      const answers = hear(halfOpen.receiver, 9, QUIET_MS).filter(({ sport }) => sport === port);
      assert.equal(
        answers.map((answer) => [answer.flags, answer.seq]),
        answered ? [[RST, 7_000]] : [],
      );
    });
  }
}

reservation("given connections to it, then none is ever accepted", () => {
  using reserved = reservePort(true).fd;
  using client = newTcpSocket(4, 0o4000); // SOCK_NONBLOCK
  const address = encodeSockaddr({ address: "127.0.0.1", port: portOf(reserved).port });
  assert.is(libc.connect(client.number, address, address.length), -1); // EINPROGRESS
  assert.is.not(getTcpInfo(client.number).state, 1);
});

/** The port of a reservation's descriptor. */
function portOf(fd: Fd): { port: number } {
  const bytes = new Uint8Array(28);
  check(libc.getsockname(fd.number, bytes, Uint32Array.of(bytes.length)), "getsockname", {});
  return { port: new DataView(bytes.buffer).getUint16(2) };
}

reservation.run();

const receiver = suite("handshake receiver");

for (const { kind, family, over } of EACH) {
  onlyFor(kind, receiver)(
    `given every kind of segment over ${over}, then it hears SYN-ACK and RST alone`,
    () => {
      using halfOpen = new HalfOpen(family, kind);
      const target = halfOpen.reserve();
      using _owned = target.fd;
      halfOpen.hearFrom(halfOpen.reservation.port);
      const address = loopback(family);
      const ends = { src: address, dst: address, sport: halfOpen.reservation.port, dport: target.port };
      const kinds = [SYN, SYN | ACK, RST, RST | ACK, SYN | ACK | PSH];
      for (const [seq, flags] of kinds.entries()) {
        halfOpen.sender.send({ ...ends, seq, ack: 1, flags, window: 1, ttl: 64, options: {} });
      }
      const heard = hear(halfOpen.receiver, 9, QUIET_MS).map(({ flags }) => flags);
      assert.equal(heard, [SYN | ACK, RST, RST | ACK, SYN | ACK | PSH]);
    },
  );

  onlyFor(kind, receiver)(
    `given a SYN over ${over}, then the kernel's SYN-ACK with all it says, dated`,
    () => {
      using halfOpen = new HalfOpen(family, kind);
      const { synAck } = halfOpen.open();
      const { sport, dport, ack, flags, options } = synAck;
      assert.equal(
        [sport, dport, ack, flags],
        [halfOpen.port, halfOpen.reservation.port, ISS + 1, SYN | ACK],
      );
      assert.is(options.tsecr, 4_000);
      assert.is(options.sackPermitted, true);
      assert.ok((options.mss ?? 0) > 0 && options.wscale !== undefined && options.tsval !== undefined);
    },
  );

  onlyFor(kind, receiver)(`given the same SYN again over ${over}, then the same SYN-ACK`, () => {
    using halfOpen = new HalfOpen(family, kind);
    const first = halfOpen.open().synAck;
    const second = halfOpen.open().synAck;
    assert.equal([second.seq, second.ack, second.window], [first.seq, first.ack, first.window]);
  });
}

for (const kind of KINDS) {
  onlyFor(kind, receiver)(`given a port nobody listens on, ${kind}, then the RST that refuses`, () => {
    using halfOpen = new HalfOpen(4, kind);
    halfOpen.listener.close();
    halfOpen.send({ seq: ISS, ack: 0, flags: SYN, options: SYN_OPTIONS });
    const [refusal] = hear(halfOpen.receiver, 1, 1_000);
    assert.equal([refusal?.flags, refusal?.ack], [RST | ACK, ISS + 1]);
  });
}

receiver("given no CAP_NET_RAW or a destination without a route, then an error number, no exception", () => {
  using halfOpen = new HalfOpen(4);
  const ends = { src: loopback(4), dst: Uint8Array.of(192, 0, 2, 1), sport: 1, dport: 2 };
  const ENETUNREACH = 101;
  const segment = { seq: 1, ack: 0, flags: SYN, window: 1, ttl: 64, options: {} };
  assert.is(halfOpen.sender.send({ ...ends, ...segment }), ENETUNREACH);
});

receiver.run();

const route = suite("probeRoute");

for (const family of [4, 6] as const) {
  route(`given the loopback over IPv${family}, then what the kernel's own SYN says`, () => {
    using halfOpen = new HalfOpen(family);
    const template = probeRoute(loopback(family), halfOpen.port);
    assert.equal(template.source, loopback(family));
    assert.is(template.advmss, family === 4 ? 65_495 : 65_476); // of 65535 (IP_MAX_MTU) and the MTU of lo, 65536
    assert.ok(template.window > 0 && template.window <= 65_535);
    assert.is(template.hopLimit, 64);
    assert.equal(hear(halfOpen.receiver, 1, 20), []);
  });
}

route("given no route, then ENETUNREACH", () => {
  assert.throws(
    () => probeRoute(Uint8Array.of(192, 0, 2, 1), 80),
    (error: unknown) => error instanceof SyscallError && error.code === "ENETUNREACH",
  );
});

route.run();

const sharing = suite("reservations");

sharing("given two destinations, then they use the same ports, each tuple once", () => {
  const reservations = new Reservations(openHearing("raw", true, silent));
  const [a, b] = [new DestinationPorts(reservations), new DestinationPorts(reservations)];
  const ofA = Array.from({ length: 5 }, () => a.take());
  const ofB = Array.from({ length: 5 }, () => b.take());
  assert.equal(new Set(ofB), new Set(ofA));
  assert.is(reservations.open, 5);
  assert.is(ofA.includes(a.take()), false);
  reservations.close();
});

sharing("given a port that rested, then it is taken again, the longest rest first", () => {
  const reservations = new Reservations(openHearing("raw", true, silent));
  const ports = new DestinationPorts(reservations);
  const [first, second] = [ports.take(), ports.take()];
  ports.giveBack(first);
  ports.giveBack(second);
  assert.is(ports.take(), first);
  assert.is(ports.take(), second);
  assert.is(reservations.open, 2);
  reservations.close();
});

sharing("given many ports given back, then only so many stay open", () => {
  const reservations = new Reservations(openHearing("raw", true, silent));
  const ports = new DestinationPorts(reservations);
  const taken = Array.from({ length: RESERVATIONS_IDLE_MAX + 8 }, () => ports.take());
  for (const port of taken) ports.giveBack(port);
  assert.is(reservations.open, RESERVATIONS_IDLE_MAX);
  assert.is(taken.filter(({ fd }) => fd?.isOpen).length, RESERVATIONS_IDLE_MAX);
  assert.is(ports.take().fd?.isOpen, true);
  reservations.close();
});

sharing("given a leased entry, then its port comes back only after its rest", () => {
  const reservations = new Reservations(openHearing("raw", true, silent));
  const ports = new DestinationPorts(reservations);
  const port = ports.take();
  ports.lease(port);
  assert.equal([port.guarded, port.leased], [0, 1]);
  assert.is.not(ports.take(), port);
  ports.rest(port);
  ports.giveBack(port);
  assert.is(ports.take(), port);
  reservations.close();
});

onlyFor("bpf", sharing)(
  "given a port that another process guarded for itself, then guarded again it is heard here",
  () => {
    using halfOpen = new HalfOpen(4, "bpf");
    const reservations = new Reservations(halfOpen.receiver);
    const { number, fd } = reservations.reserve();
    const other = openHearing("bpf", true, silent);
    other.adopt(fd!);
    const ends = { src: loopback(4), dst: loopback(4), sport: 999, dport: number };
    const segment = { seq: 1, ack: 2, flags: SYN | ACK, window: 1, ttl: 64, options: {} };
    halfOpen.sender.send({ ...ends, ...segment });
    assert.equal(hear(halfOpen.receiver, 1, 30), []);
    reservations.guardAgain();
    halfOpen.sender.send({ ...ends, ...segment });
    assert.is(hear(halfOpen.receiver, 1, 1_000).length, 1);
    reservations.close();
    other.close();
  },
);

sharing.run();
