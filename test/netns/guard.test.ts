// Goal: no packet of a guarded connection comes in or leaves, all others do, and nothing is left afterwards.
// Method: TCP connections and raw segments on the loopback of a namespace of our own, through libnftables and
// through the nft program; other processes that are killed, or work on the guard at the same time.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_CLOEXEC } from "../../native/abi/socket.ts";
import { encodeSockaddr, formatAddress } from "../../native/address.ts";
import { check } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { NftGuard } from "../../native/guard/guard.ts";
import { GuardError } from "../../native/guard/guard-error.ts";
import { elementKey, GUARD_MARK, type GuardedTuple } from "../../native/guard/ruleset.ts";
import { libc } from "../../native/libc.ts";
import { RawSender } from "../../native/net/raw-sender.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import { setRepair, takeSocketError } from "../../native/sockopt.ts";
import { RST } from "../../native/wire/tcp.ts";
import { runCommand } from "../proxy/command.ts";
import { HalfOpen, hear, loopback } from "./half-open.ts";

const NOWHERE = "no-such-library.so";
const BACKENDS = [
  ["libnftables", {}],
  ["the nft program", { library: NOWHERE }],
] as const;
const PRELOAD = new URL("../../scripts/typescript.mjs", import.meta.url).href;
const PATIENCE_MS = 5_000;
const QUIET_MS = 60;

const HOLDER = fileURLToPath(new URL("./guard-holder.ts", import.meta.url));
const UNPRIVILEGED = fileURLToPath(new URL("./guard-unprivileged.ts", import.meta.url));
const nft = (...args: string[]): string => {
  const { status, stdout, stderr } = spawnSync("nft", args, { encoding: "utf8" });
  assert.is(status, 0, stderr);
  return stdout;
};
const ruleset = (): string => nft("list", "ruleset");
const keysOf = (tuples: readonly GuardedTuple[]): string[] => tuples.map(elementKey).sort();
/** Of many, which a failed comparison should not print. */
const digest = (tuples: readonly GuardedTuple[]): string =>
  `${tuples.length} ${createHash("sha256").update(keysOf(tuples).join()).digest("hex")}`;

function tuplesOf(count: number, family: 4 | 6): GuardedTuple[] {
  const [local, remote] = family === 4 ? [4, 4] : [16, 16];
  return Array.from({ length: count }, (_, i) => ({
    local: { address: new Uint8Array(local).fill(3), port: 80 },
    remote: { address: new Uint8Array(remote).fill(1 + (i >> 14)), port: 1_024 + (i & 0x3fff) },
  }));
}

/** Two ends of a connection over the loopback; `ours` is the one to guard. */
class Connection implements Disposable {
  readonly ours: Fd;
  readonly theirs: Fd;
  readonly tuple: GuardedTuple;

  constructor(family: 4 | 6) {
    const address = loopback(family);
    using listener = listenTcp({ address: formatAddress(address), port: 0 }, 8);
    const { port } = localEndpoint(listener.number);
    const sockaddr = encodeSockaddr({ address: formatAddress(address), port });
    this.ours = newTcpSocket(family, 0);
    check(libc.connect(this.ours.number, sockaddr, sockaddr.length), "connect", {});
    this.theirs = new Fd(check(libc.accept4(listener.number, null, null, SOCK_CLOEXEC), "accept4", {}));
    this.tuple = {
      local: { address, port: localEndpoint(this.ours.number).port },
      remote: { address, port },
    };
  }

  [Symbol.dispose](): void {
    this.ours.close();
    this.theirs.close();
  }
}

function write(fd: Fd, text: string): void {
  const bytes = Buffer.from(text);
  assert.is(Number(libc.sendto(fd.number, bytes, bytes.length, MSG_NOSIGNAL, null, 0)), bytes.length);
}

/** What has come by now; "" for nothing. */
function read(fd: Fd): string {
  const bytes = Buffer.alloc(100);
  const length = Number(libc.recv(fd.number, bytes, bytes.length, MSG_DONTWAIT));
  return length < 0 ? "" : bytes.toString("latin1", 0, length);
}

const pause = (delayMs: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, delayMs));

async function until<T>(probe: () => T, isThere: (value: T) => boolean): Promise<T> {
  const endsAt = performance.now() + PATIENCE_MS;
  for (;;) {
    const value = probe();
    if (isThere(value)) return value;
    assert.ok(performance.now() < endsAt, `waited in vain, last ${String(value)}`);
    await pause(5);
  }
}

const packets = suite("guard: packets");

for (const family of [4, 6] as const) {
  for (const [backend, places] of BACKENDS) {
    packets(
      `given a guarded connection over IPv${family} by ${backend}, then both directions wait`,
      async () => {
        using guard = new NftGuard(places);
        using guarded = new Connection(family);
        using other = new Connection(family);
        guard.add([guarded.tuple]);
        for (const { ours, theirs } of [guarded, other]) {
          write(ours, "out");
          write(theirs, "in");
        }
        assert.is(await until(() => read(other.theirs), Boolean), "out");
        assert.is(await until(() => read(other.ours), Boolean), "in");
        await pause(QUIET_MS);
        assert.equal([read(guarded.ours), read(guarded.theirs)], ["", ""]);
        guard.remove([guarded.tuple]);
        assert.is(await until(() => read(guarded.theirs), Boolean), "out");
        assert.is(await until(() => read(guarded.ours), Boolean), "in");
        guard.close();
        assert.is(ruleset(), "");
      },
    );
  }

  packets(`given its socket gone over IPv${family}, then no RST until the guard is`, async () => {
    using guard = new NftGuard();
    using connection = new Connection(family);
    using halfOpen = new HalfOpen(family);
    guard.add([connection.tuple]);
    setRepair(connection.ours.number, true);
    connection.ours.close();
    write(connection.theirs, "anybody there?");
    assert.equal(hear(halfOpen.receiver, 1, QUIET_MS), []);
    assert.is(takeSocketError(connection.theirs.number), 0);
    guard.remove([connection.tuple]);
    assert.is(hear(halfOpen.receiver, 1, PATIENCE_MS)[0]?.flags, RST);
    assert.is.not(takeSocketError(connection.theirs.number), 0);
  });

  for (const [way, isOut] of [
    ["out", true],
    ["in", false],
  ] as const) {
    packets(`given a segment on its way ${way} over IPv${family}, then only one with the mark passes`, () => {
      using guard = new NftGuard();
      using halfOpen = new HalfOpen(family);
      const address = loopback(family);
      const [local, remote] = [
        { address, port: 7_001 },
        { address, port: 7_002 },
      ];
      guard.add([{ local, remote }]);
      const [sport, dport] = isOut ? [local.port, remote.port] : [remote.port, local.port];
      for (const mark of [undefined, GUARD_MARK]) {
        using sender = new RawSender(family, mark);
        const segment = { src: address, dst: address, sport, dport, flags: RST, options: {} };
        sender.send({ ...segment, seq: mark ?? 1, ack: 0, window: 0, ttl: 64 });
      }
      assert.equal(
        hear(halfOpen.receiver, 2, QUIET_MS).map(({ seq }) => seq),
        [GUARD_MARK],
      );
      guard.remove([{ local, remote }]);
    });
  }
}

packets("given IPv4-mapped addresses, then IPv4 packets are dropped", async () => {
  using guard = new NftGuard();
  using connection = new Connection(4);
  const mapped = (address: Uint8Array): Uint8Array =>
    Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...address);
  const { local, remote } = connection.tuple;
  const tuple = {
    local: { ...local, address: mapped(local.address) },
    remote: { ...remote, address: mapped(remote.address) },
  };
  guard.add([tuple]);
  write(connection.ours, "late");
  await pause(QUIET_MS);
  assert.is(read(connection.theirs), "");
  guard.remove([connection.tuple]);
  assert.is(await until(() => read(connection.theirs), Boolean), "late");
});

packets.run();

const table = suite("guard: table");

for (const [backend, places] of BACKENDS) {
  table(`given rules of others and ${backend}, then they are the same before, while and after`, () => {
    nft(
      "add table inet theirs { chain input { type filter hook input priority 0 ; tcp dport 9 counter drop ; } ; }",
    );
    const before = ruleset();
    using guard = new NftGuard(places);
    const tuples = [...tuplesOf(3, 4), ...tuplesOf(2, 6)];
    guard.add(tuples);
    const whileGuarded = ruleset();
    assert.ok(whileGuarded.startsWith(before) && whileGuarded !== before);
    assert.equal(keysOf(guard.list()), keysOf(tuples));
    guard.remove(tuples.slice(0, 4));
    assert.equal(keysOf(guard.list()), keysOf(tuples.slice(4)));
    guard.remove(tuples.slice(4));
    guard.close();
    assert.is(ruleset(), before);
    nft("delete table inet theirs");
  });

  table(`given thousands by ${backend}, then all are in, and out again`, () => {
    using guard = new NftGuard(places);
    const tuples = [...tuplesOf(5_000, 4), ...tuplesOf(1_500, 6)];
    guard.add(tuples);
    assert.is(digest(guard.list()), digest(tuples));
    guard.remove(tuples);
    guard.close();
    assert.is(ruleset(), "");
  });
}

table("given the same connection twice, then it is in once; taken out twice, then no error", () => {
  using guard = new NftGuard();
  const [a, b, c] = tuplesOf(3, 4) as [GuardedTuple, GuardedTuple, GuardedTuple];
  guard.add([a, a, b]);
  guard.add([a]);
  assert.equal(keysOf(guard.list()), keysOf([a, b]));
  guard.remove([a, a, c]);
  assert.equal(keysOf(guard.list()), keysOf([b]));
  guard.remove([a, b]);
  guard.remove([a, b]);
  guard.close();
  assert.is(ruleset(), "");
});

for (const [name, places] of BACKENDS) {
  table(`given a lifetime, then packets pass when it is over, unless it is kept (${name})`, async () => {
    using guard = new NftGuard(places);
    const [passing, kept, shortened, given] = tuplesOf(4, 4) as [
      GuardedTuple,
      GuardedTuple,
      GuardedTuple,
      GuardedTuple,
    ];
    guard.add([passing, kept], 1);
    guard.add([shortened]);
    guard.keep([kept]);
    guard.keep([shortened, given], 1);
    assert.equal(keysOf(guard.list()), keysOf([passing, kept, shortened, given]));
    const deadline = performance.now() + PATIENCE_MS;
    while (guard.list().length > 1 && performance.now() < deadline) await pause(50);
    assert.equal(keysOf(guard.list()), keysOf([kept]));
    guard.remove([kept, passing]);
    assert.equal(guard.list(), []);
    // What is over still counts until the kernel has collected it.
    while (ruleset() !== "" && performance.now() < deadline) {
      await pause(100);
      new NftGuard(places).close();
    }
    assert.is(ruleset(), "");
  });
}

table("given one bad connection among many, then none is in", () => {
  using guard = new NftGuard();
  const [a] = tuplesOf(1, 4) as [GuardedTuple];
  const bad = { local: a.local, remote: tuplesOf(1, 6)[0]!.remote };
  assert.throws(() => guard.add([...tuplesOf(1_500, 4), bad]), /address family/);
  guard.close();
  assert.is(ruleset(), "");
});

// libnftables selects on its socket, and glibc ended a proxy with 500 sessions that way.
table("given more descriptors open than select(2) takes, then it works all the same", () => {
  const fds = Array.from({ length: 1_100 }, () => openSync("/dev/null", "r"));
  try {
    using guard = new NftGuard();
    const tuples = tuplesOf(3, 4);
    guard.add(tuples);
    assert.equal(keysOf(guard.list()), keysOf(tuples));
    guard.remove(tuples);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
  assert.is(ruleset(), "");
});

table("given nothing to do, then nothing is done", () => {
  using guard = new NftGuard();
  guard.add([]);
  guard.remove([]);
  assert.equal(guard.list(), []);
  guard.close();
  assert.is(ruleset(), "");
});

table.run();

const processes = suite("guard: processes");

const holder = (...args: string[]) =>
  spawn(process.execPath, ["--import", PRELOAD, HOLDER, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });

processes("given its process killed, then the guard stays, and another process removes it", async () => {
  const child = holder("4711");
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "close");
  using guard = new NftGuard();
  const left = guard.list();
  assert.equal(keysOf(left), ["192.0.2.2 . 80 . 192.0.2.1 . 4711"]);
  guard.remove(left);
  guard.close();
  assert.is(ruleset(), "");
});

processes(
  "given several that add and remove at once, then nobody loses anything, and no table is left",
  async () => {
    const children = [1, 2, 3].map((port) => holder(String(port), "30"));
    const codes = await Promise.all(children.map(async (child) => (await once(child, "close"))[0]));
    assert.equal(codes, [0, 0, 0]);
    assert.is(ruleset(), "");
  },
);

processes.run();

const doctor = suite("guard: doctor");

doctor("given connections in the guard, then accelproxy doctor names them and the remedy", async () => {
  using guard = new NftGuard();
  const look = async (): Promise<{ ok: boolean; found: string; remedy: string }> => {
    const { checks } = JSON.parse((await runCommand(["doctor", "--json"])).stdout);
    return checks.find(({ name }: { name: string }) => name === "guard");
  };
  guard.add(tuplesOf(2, 4));
  const leftover = await look();
  assert.is(leftover.ok, false);
  assert.is(leftover.found, "2 connections are guarded: nobody answers for them");
  nft(...leftover.remedy.slice(leftover.remedy.indexOf("nft ")).split(" ").slice(1));
  assert.is(ruleset(), "");
  assert.is((await look()).ok, true);
});

doctor.run();

const errors = suite("guard: errors");

errors("given neither library nor program, then the package is named", () => {
  assert.throws(
    () => new NftGuard({ library: NOWHERE, program: "no-such-program" }),
    (error: unknown) =>
      error instanceof GuardError &&
      error.code === "ACCEL_GUARD_MISSING" &&
      error.message.includes("apt-get install nftables"),
  );
});

for (const [backend, places] of BACKENDS) {
  errors(`given no CAP_NET_ADMIN and ${backend}, then it is named`, () => {
    const library = "library" in places ? places.library : "libnftables.so.1";
    const args = [
      "--bounding-set",
      "-net_admin",
      "--",
      process.execPath,
      "--import",
      PRELOAD,
      UNPRIVILEGED,
      library,
    ];
    const { stdout, stderr } = spawnSync("setpriv", args, { encoding: "utf8" });
    assert.match(stdout, /^ACCEL_GUARD_DENIED .*CAP_NET_ADMIN/, stderr);
  });
}

errors.run();
