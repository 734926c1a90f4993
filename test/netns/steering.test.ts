// Goal: ports that share a listener are silent about handshakes of upstreams and about nothing else; whoever binds one
// is not in our way, nor we in his; nothing stays behind. Method: the loopback of a namespace of our own.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { SOCK_NONBLOCK } from "../../native/abi/socket.ts";
import { encodeSockaddr } from "../../native/address.ts";
import { check, SyscallError } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import { restorePlan } from "../../native/repair/plan.ts";
import { restoreBySyscalls } from "../../native/repair/restore.ts";
import { ACK, RST, SYN } from "../../native/wire/tcp.ts";
import { openHearing, openSteering } from "../../pool/hearing.ts";
import { HalfOpen, hear, loopback, onlyFor, silent } from "./half-open.ts";

const PORT_RANGE = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const FIRST = 61_000;
const PRELOAD = new URL("../../scripts/typescript.mjs", import.meta.url).href;

const steering = suite("steering");
const test = onlyFor("steered", steering);

/** Runs `action` with a setting of this namespace changed. */
function withSetting(path: string, value: string, action: () => void): void {
  const before = readFileSync(path, "latin1");
  writeFileSync(path, value);
  try {
    action();
  } finally {
    writeFileSync(path, before);
  }
}

/** The error code of opening ports that share a listener. */
function refusal(): string {
  const hearing = openHearing("steered", true, silent);
  try {
    openSteering("steered", hearing, silent)?.close();
    return "none";
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    assert.is(openSteering("auto", hearing, silent), undefined, "what is only wanted is done without");
    return error.code;
  } finally {
    hearing.close();
  }
}

/** One byte each way between a client, which connects from `from`, and a listener. */
function serve(listener: Fd, from: string): void {
  using client = newTcpSocket(4, 0);
  const local = encodeSockaddr({ address: from, port: 0 });
  check(libc.bind(client.number, local, local.length), "bind", {});
  const server = encodeSockaddr(localEndpoint(listener.number));
  check(libc.connect(client.number, server, server.length), "connect", {});
  using accepted = new Fd(check(libc.accept4(listener.number, null, null, 0), "accept4", {}));
  exchange(client.number, accepted.number);
}

function exchange(one: number, other: number): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    check(Number(libc.write(from, Buffer.from("x"), 1)), "write", {});
    assert.is(Number(libc.read(to, Buffer.alloc(1), 1)), 1);
  }
}

test("given a stranger's listener on one of the ports, then it has its clients, those from the upstream's address too", () => {
  using before = listenTcp({ address: "0.0.0.0", port: FIRST }, 8);
  using halfOpen = new HalfOpen(4, "steered");
  const { port } = halfOpen.reservation;
  assert.is(port, FIRST + 1, "a port somebody has is passed over");
  halfOpen.open();
  using after = listenTcp({ address: "0.0.0.0", port }, 8);
  for (const listener of [before, after])
    for (const from of ["127.0.0.1", "127.0.0.2"]) serve(listener, from);
  assert.ok(halfOpen.open().image, "and the half-open is still one");
});

test("given two upstreams, then both use a port at once, before and after", () => {
  using first = new HalfOpen(4, "steered");
  using listener = listenTcp({ address: "127.0.0.2", port: 0 }, 8);
  const server = localEndpoint(listener.number);
  const address = Uint8Array.of(127, 0, 0, 2);
  first.steered!.add({ address, port: server.port });
  const { image } = first.open();
  const ends = { src: loopback(4), dst: address, sport: first.reservation.port, dport: server.port };
  first.sender.send({
    ...ends,
    seq: 7,
    ack: 0,
    flags: SYN,
    window: 65_495,
    ttl: 64,
    options: { mss: 1_460 },
  });
  const [answer] = hear(first.receiver, 1, 1_000);
  assert.equal([answer?.sport, answer?.flags, answer?.ack], [server.port, SYN | ACK, 8]);
  using ours = new Fd(restoreBySyscalls(restorePlan(image)));
  const other = { ...image, remote: { address, port: server.port }, snd_una: 8, rcv_nxt: answer!.seq + 1 };
  using others = new Fd(
    restoreBySyscalls(
      restorePlan({ ...other, window: { ...image.window, snd_wl1: answer!.seq, rcv_wup: answer!.seq + 1 } }),
    ),
  );
  assert.is(localEndpoint(ours.number).port, localEndpoint(others.number).port);
  check(Number(libc.write(ours.number, Buffer.from("x"), 1)), "write", {});
  using theirs = new Fd(check(libc.accept4(first.listener.number, null, null, 0), "accept4", {}));
  assert.is(Number(libc.read(theirs.number, Buffer.alloc(1), 1)), 1);
  exchange(theirs.number, ours.number);
});

test("given the kernel's choice of a port, then it is none of these, and reserved ones are not ours", () => {
  withSetting(RESERVED, `${FIRST + 10},${FIRST + 12}-${FIRST + 14}`, () => {
    using halfOpen = new HalfOpen(4, "steered");
    const ports: number[] = [];
    while ((ports.at(-1) ?? 0) < FIRST + 16) ports.push(halfOpen.reserve().port);
    assert.equal(ports.slice(-4), [FIRST + 9, FIRST + 11, FIRST + 15, FIRST + 16]);
    for (let count = 0; count < 50; count++) {
      using socket = newTcpSocket(4, SOCK_NONBLOCK);
      const server = encodeSockaddr(localEndpoint(halfOpen.listener.number));
      libc.connect(socket.number, server, server.length);
      assert.ok(localEndpoint(socket.number).port < FIRST);
    }
  });
});

test("given too few ports above the kernel's choice, then EADDRNOTAVAIL", () => {
  withSetting(PORT_RANGE, "1024 65000", () => assert.is(refusal(), "EADDRNOTAVAIL"));
  assert.is(refusal(), "none");
});

test("given another process that steers them, then EADDRINUSE, until it is killed: then nothing is left of it", async () => {
  using halfOpen = new HalfOpen(4, "bpf");
  const script = fileURLToPath(new URL("./steering-holder.ts", import.meta.url));
  const holder = spawn(process.execPath, ["--import", PRELOAD, script, String(halfOpen.port)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [port] = (await once(holder.stdout!, "data")).map(Number);
  /** What a SYN-ACK of its upstream draws from the port. */
  const answers = (): number[] => {
    const address = loopback(4);
    const ends = { src: address, dst: address, sport: halfOpen.port, dport: port! };
    const probe = { seq: 1, ack: 2, flags: SYN | ACK, window: 1, ttl: 64, options: {} };
    using raw = openRaw();
    halfOpen.sender.send({ ...ends, ...probe });
    return hear(raw, 9, 50).flatMap(({ sport, flags }) => (sport === port ? [flags] : []));
  };
  assert.equal(answers(), [], "it is silent");
  assert.is(refusal(), "EADDRINUSE");
  const ended = once(holder, "exit");
  holder.kill("SIGKILL");
  await ended;
  assert.equal(answers(), [RST], "the kernel answers");
  assert.is(refusal(), "none");
});

/** Hears every SYN-ACK and RST of the namespace. */
function openRaw(): ReturnType<typeof openHearing> & Disposable {
  const hearing = openHearing("raw", true, silent);
  hearing.add(4);
  return Object.assign(hearing, { [Symbol.dispose]: () => hearing.close() });
}

test("given an upstream that is no longer one, then the kernel answers it", () => {
  using halfOpen = new HalfOpen(4, "steered");
  halfOpen.steered!.remove({ address: loopback(4), port: halfOpen.port });
  assert.throws(() => halfOpen.open(), /no SYN-ACK/);
});

test("given no capability at all, then a loaded program is attached all the same", () => {
  using halfOpen = new HalfOpen(4, "bpf");
  const program = halfOpen.receiver.socketOptions[0]!.value;
  const script = fileURLToPath(new URL("./attach-unprivileged.ts", import.meta.url));
  const drop = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
  const { stdout, stderr } = spawnSync("setpriv", [...drop, process.execPath, "--import", PRELOAD, script], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe", program],
  });
  assert.is(stdout, "CapEff 0000000000000000, attached\n", stderr);
});

steering.run();
