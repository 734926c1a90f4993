// Goal: what a service manager sees: readiness, reloads, the end, a watchdog that beats only while the threads answer,
// the process an upgrade leaves it with, and sockets that it opened itself.
// Method: the command line as a service manager starts it, between real sockets. The manager is this test.
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { text } from "node:stream/consumers";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { AF_UNIX, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM } from "../../native/abi/socket.ts";
import { check } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { libc } from "../../native/libc.ts";
import { listenTcp, localEndpoint } from "../../native/net/tcp-socket.ts";
import { formatPassed, OURS, readPassed } from "../../proxy/passed.ts";
import { readManager } from "../../proxy/service-manager.ts";
import { fileOf, pathOf, Running } from "./command.ts";

const isRoot = process.getuid?.() === 0;
const WATCHDOG_MS = 400;

const echo = createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(0, "127.0.0.1");
await once(echo, "listening");
echo.unref();
const bound = echo.address();
const upstream = typeof bound === "object" && bound !== null ? bound.port : 0;

function configOf(name: string, mode: "tcp" | "http"): string {
  return fileOf(
    name,
    `listeners: [{ name: web, bind: "127.0.0.1:0", mode: ${mode}, upstream: o, takeAfter: 1ms }]
upstreams: { o: { servers: [{ address: "127.0.0.1:${upstream}" }] } }
workers: 2
acceleration: ${isRoot ? "required" : "off"}\n`,
  );
}

/** A service manager: hears what the service says, and has opened a socket for its listener. */
class Managed {
  readonly proxy: Running;
  readonly port: number;
  readonly #fd = new Fd(check(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket", {}));
  readonly #given = listenTcp({ address: "127.0.0.1", port: 0 }, 128);
  readonly #heard: (readonly string[])[] = [];

  constructor(path: string, config: string) {
    const address = Buffer.concat([Buffer.of(AF_UNIX, 0), Buffer.from(path.replace(/^@/, "\0"))]);
    check(libc.bind(this.#fd.number, address, address.length), "bind", { path });
    this.port = localEndpoint(this.#given.number).port;
    const variables = [
      `NOTIFY_SOCKET=${path}`,
      `WATCHDOG_USEC=${WATCHDOG_MS * 1e3}`,
      "LISTEN_FDS=1",
      "LISTEN_FDNAMES=web",
    ];
    // What is passed lies at 3 and up, for the process whose number LISTEN_PID is.
    const prefix = ["env", ...variables, "sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"];
    // The kernel keeps ten datagrams, no more (net.unix.max_dgram_qlen).
    setInterval(() => this.heard, 20).unref();
    this.proxy = new Running(["--config", config], prefix, [this.#given.number]);
  }

  /** What was heard so far, a list of lines a datagram. */
  get heard(): readonly (readonly string[])[] {
    const buffer = Buffer.alloc(4_096);
    for (;;) {
      const length = Number(libc.recv(this.#fd.number, buffer, buffer.length, MSG_DONTWAIT));
      if (length < 0) return this.#heard;
      this.#heard.push(buffer.toString("utf8", 0, length).split("\n"));
    }
  }

  count(line: string): number {
    return this.heard.filter(([first]) => first === line).length;
  }
}

async function until(what: string, found: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!found()) {
    if (performance.now() > deadlineMs) throw new Error(`${what}: not within 30 s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function echoed(port: number): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.end("hello");
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

const service = suite("systemd");
for (const path of [pathOf("notify.sock"), `@accelproxy-test-${process.pid}`]) {
  const given = `given a manager at ${path[0] === "@" ? "an abstract name" : "a path"}`;
  service(`${given}, then it hears all, and its socket is used`, async () => {
    const managed = new Managed(path, configOf("systemd.yaml", "tcp"));
    const { proxy, port } = managed;
    const { address } = await proxy.logged("listening");
    assert.is(address, `127.0.0.1:${port}`, "the socket that was passed, by the listener's name");
    assert.is(await echoed(port), "hello");
    await until("ready", () => managed.count("READY=1") === 1);

    await until("watchdog", () => managed.count("WATCHDOG=1") >= 3);
    proxy.kill("SIGHUP");
    await until("reloaded", () => managed.count("READY=1") === 2);
    const reloading = managed.heard.find(([line]) => line === "RELOADING=1");
    const usec = Number(reloading?.[1]?.replace("MONOTONIC_USEC=", ""));
    assert.ok(Math.abs(usec / 1e6 - Number(process.hrtime.bigint()) / 1e9) < 60, `${usec}`);

    proxy.kill("SIGTERM");
    assert.is((await proxy.ended).code, 0);
    assert.is(managed.count("STOPPING=1"), 1);
  });
}

service(
  "given an http listener, then it has the socket that was passed, and its threads answer",
  async () => {
    const managed = new Managed(pathOf("http.sock"), configOf("http.yaml", "http"));
    const { proxy, port } = managed;
    assert.is((await proxy.logged("listening")).address, `127.0.0.1:${port}`);
    const socket = connect(port, "127.0.0.1");
    socket.end("no request\r\n\r\n");
    assert.match(await text(socket), /^HTTP\/1.1 400 /);
    await until("watchdog", () => managed.count("WATCHDOG=1") >= 3);
    proxy.kill("SIGTERM");
    assert.is((await proxy.ended).code, 0);
  },
);

service(
  "given an upgrade, then the manager is told who is the service now, who goes on beating",
  async () => {
    const managed = new Managed(pathOf("upgrade.sock"), configOf("upgrade.yaml", "tcp"));
    const { proxy } = managed;
    await proxy.logged("started");
    proxy.kill("SIGUSR2");
    const { pid } = await proxy.logged("upgraded: a new process has everything");
    await until("MAINPID", () => managed.count(`MAINPID=${pid}`) === 1);
    const before = managed.count("WATCHDOG=1");
    await until("watchdog", () => managed.count("WATCHDOG=1") >= before + 2);
    process.kill(Number(pid), "SIGTERM");
    await proxy.ended;
    assert.is(managed.count("STOPPING=1"), 1, "of the new one alone");
  },
);

service("given descriptors in the environment, then only those for this process are taken", () => {
  const systemd = { LISTEN_FDS: "2", LISTEN_PID: "7", LISTEN_FDNAMES: "web:" };
  assert.equal(readPassed({ ...systemd }, 7), [
    [3, "web"],
    [4, "unknown"],
  ]);
  const environment: Record<string, string | undefined> = { ...systemd, PATH: "/bin" };
  assert.equal(readPassed(environment, 8), []);
  assert.equal(environment, { PATH: "/bin" }, "children are not meant");
  const ours = [
    [12, "web"],
    [13, "bpf/guard"],
  ] as const;
  assert.equal(readPassed({ [OURS]: formatPassed(ours) }, 1), ours);
  assert.equal(readPassed({ [OURS]: "x,3,:y" }, 1), []);
});

service("given a watchdog of another process, then there is none", () => {
  const environment = { NOTIFY_SOCKET: "/run/n", WATCHDOG_USEC: "2000000", WATCHDOG_PID: "7" };
  assert.is(readManager({ ...environment }, 7)?.watchdogMs, 2_000);
  assert.is(readManager({ ...environment }, 8)?.watchdogMs, undefined);
  assert.is(readManager({ NOTIFY_SOCKET: "vsock:1" }, 8), undefined);
});
service.run();
