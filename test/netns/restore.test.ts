// Goal: a half-open becomes a socket the kernel and its peer take for their own, and failures leave nothing behind.
// Method: real handshakes on the loopback of a namespace of our own.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MSG_NOSIGNAL, SOCK_CLOEXEC } from "../../native/abi/socket.ts";
import { check, SyscallError } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { localEndpoint } from "../../native/net/tcp-socket.ts";
import { restorePlan } from "../../native/repair/plan.ts";
import { restoreBySyscalls } from "../../native/repair/restore.ts";
import { getTcpInfo } from "../../native/sockopt.ts";
import { HalfOpen, hear } from "./half-open.ts";

const ESTABLISHED = 1;

const accept = (listener: Fd): Fd =>
  new Fd(check(libc.accept4(listener.number, null, null, SOCK_CLOEXEC), "accept4", {}));

function write(fd: Fd, text: string): void {
  const bytes = Buffer.from(text);
  assert.is(Number(libc.sendto(fd.number, bytes, bytes.length, MSG_NOSIGNAL, null, 0)), bytes.length);
}

function read(fd: Fd): string {
  const bytes = Buffer.alloc(100);
  return bytes.toString("latin1", 0, check(Number(libc.recv(fd.number, bytes, bytes.length, 0)), "recv", {}));
}

const openDescriptors = (): number => readdirSync("/proc/self/fd").length;

const restore = suite("restore");

for (const family of [4, 6] as const) {
  restore(`given a half-open over IPv${family}, then an established socket without a packet`, () => {
    using halfOpen = new HalfOpen(family);
    const { image } = halfOpen.open();
    using ours = new Fd(restoreBySyscalls(restorePlan(image)));
    const info = getTcpInfo(ours.number);
    assert.equal([info.state, info.segsOut, info.unacked], [ESTABLISHED, 0, 0]);
    assert.is(localEndpoint(ours.number).port, halfOpen.reservation.port);
    write(ours, "question");
    using theirs = accept(halfOpen.listener);
    assert.is(read(theirs), "question");
    write(theirs, "answer");
    assert.is(read(ours), "answer");
    assert.is(getTcpInfo(ours.number).totalRetrans, 0);
  });
}

restore("given the reservation closed afterwards, then the socket keeps the port", () => {
  using halfOpen = new HalfOpen(4);
  const { image } = halfOpen.open();
  using ours = new Fd(restoreBySyscalls(restorePlan(image)));
  halfOpen.reservation.fd.close();
  write(ours, "still");
  using theirs = accept(halfOpen.listener);
  assert.is(read(theirs), "still");
});

restore("given the same connection twice, then EADDRNOTAVAIL, silently, and no descriptor left", () => {
  using halfOpen = new HalfOpen(4);
  const { image } = halfOpen.open();
  using ours = new Fd(restoreBySyscalls(restorePlan(image)));
  const before = openDescriptors();
  assert.throws(
    () => restoreBySyscalls(restorePlan(image)),
    (error: unknown) =>
      error instanceof SyscallError &&
      error.syscall === "connect" &&
      ["EADDRINUSE", "EADDRNOTAVAIL"].includes(error.code),
  );
  assert.is(openDescriptors(), before);
  assert.equal(hear(halfOpen.receiver, 1, 50), []);
  write(ours, "unharmed");
  using theirs = accept(halfOpen.listener);
  assert.is(read(theirs), "unharmed");
});

restore("given a local address that is not ours, then EADDRNOTAVAIL at bind", () => {
  using halfOpen = new HalfOpen(4);
  const { image } = halfOpen.open();
  const elsewhere = { ...image, local: { ...image.local, address: Uint8Array.of(192, 0, 2, 1) } };
  assert.throws(
    () => restoreBySyscalls(restorePlan(elsewhere)),
    (error: unknown) =>
      error instanceof SyscallError && error.code === "EADDRNOTAVAIL" && error.syscall === "bind",
  );
});

restore("given no CAP_NET_ADMIN, then EPERM at TCP_REPAIR", () => {
  const script = fileURLToPath(new URL("./restore-unprivileged.ts", import.meta.url));
  const preload = new URL("../../scripts/typescript.mjs", import.meta.url).href;
  const args = ["--bounding-set", "-net_admin", "--", process.execPath, "--import", preload, script];
  const { stdout, stderr } = spawnSync("setpriv", args, { encoding: "utf8" });
  assert.is(stdout, "EPERM setInt\n", stderr);
});

restore.run();
