// deadline: 90s
// Goal: what the log says of rare turns of a proxy's life: signals at the wrong time, threads that hang or die, a service
// manager that is not there, an end that takes too long. docs/operating/troubleshoot.md explains these lines.
// Method: the built command line, in which some threads run code of the test.
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { listenTcp } from "../../native/net/tcp-socket.ts";
import { fileOf, pathOf, Running, withCode } from "./command.ts";

const isRoot = process.getuid?.() === 0;

const upstream = createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(0, "127.0.0.1");
await once(upstream, "listening");
upstream.unref();
const bound = upstream.address();
const upstreamPort = typeof bound === "object" && bound !== null ? bound.port : 0;

let files = 0;

function config(more = "", mode: "tcp" | "http" = "tcp"): string {
  files += 1;
  return fileOf(
    `lines${files}.yaml`,
    `listeners: [{ name: web, bind: "127.0.0.1:0", mode: ${mode}, upstream: o, takeAfter: 1ms }]
upstreams: { o: { servers: [{ address: "127.0.0.1:${upstreamPort}" }] } }
workers: 1
acceleration: ${isRoot ? "required" : "off"}
${more}\n`,
  );
}

/** Blocks a thread, so that it hears nothing. */
const block = (ms: number): string => `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${ms});`;

/** A client whose session is there. */
async function session(proxy: Running): Promise<void> {
  const { address } = await proxy.logged("listening");
  const socket = connect(Number(String(address).split(":")[1]), "127.0.0.1");
  socket.on("error", () => {}).unref();
  socket.write("hello");
  await once(socket, "data");
}

async function ended(proxy: Running, code = 0): Promise<void> {
  proxy.kill("SIGTERM");
  assert.is((await proxy.ended).code, code);
}

const lines = suite("log lines");
lines("given signals while it starts, then it says that they come too early", async () => {
  const proxy = new Running(["--config", config()], withCode("!isMainThread", block(1_500)));
  await proxy.logged("starting");
  proxy.kill("SIGHUP");
  proxy.kill("SIGUSR2");
  await proxy.logged("not reloading: the proxy is starting");
  await proxy.logged("not upgrading: the proxy is starting, upgrading or stopping");
  await proxy.logged("started");
  await ended(proxy);
});

lines("given settings that wait for the next start, then a reload names them", async () => {
  const file = config();
  const proxy = new Running(["--config", file]);
  await proxy.logged("started");
  writeFileSync(file, readFileSync(file, "utf8").replace("workers: 1", "workers: 2"));
  proxy.kill("SIGHUP");
  assert.equal((await proxy.logged("these settings change at the next start")).settings, ["workers"]);
  await proxy.logged("configuration reloaded");
  await ended(proxy);
});

lines(
  "given a service manager that is not there, and sockets nobody wants, then a line for each",
  async () => {
    using socket = listenTcp({ address: "127.0.0.1", port: 0 }, 8);
    const manager = [`NOTIFY_SOCKET=${pathOf("nobody.sock")}`, "LISTEN_FDS=1", "LISTEN_FDNAMES=other"];
    const prefix = ["env", ...manager, "sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"];
    const proxy = new Running(["--config", config()], prefix, [socket.number]);
    await proxy.logged("started");
    assert.equal(
      (await proxy.logged("descriptors passed to this process are not in the configuration")).names,
      ["other"],
    );
    await proxy.logged("the service manager does not hear us");
    await ended(proxy);
  },
);

lines("given a session that outlasts drainTimeout, then it is cut, and a line says so", async () => {
  const proxy = new Running(["--config", config("drainTimeout: 100ms")]);
  await session(proxy);
  await ended(proxy);
  const said = proxy.log.map(({ msg }) => msg);
  const [last] = proxy.log.filter(({ msg }) => msg === "drain timeout, closing what is left");
  assert.is(last?.active, 1);
  assert.ok(said.indexOf("draining") < said.indexOf("drain timeout, closing what is left"));
  assert.is(said.at(-1), "stopped");
});

lines(
  "given an upgrade without a place for the admin interface, then the new process serves without",
  async () => {
    const folder = pathOf("gone");
    mkdirSync(folder);
    const proxy = new Running(["--config", config(`admin: { bind: "unix:${folder}/admin.sock" }`)]);
    await proxy.logged("started");
    rmSync(folder, { recursive: true });
    proxy.kill("SIGUSR2");
    await proxy.logged("upgrading: starting a new process");
    await proxy.logged("taking over from a running proxy");
    const { pid } = await proxy.logged("upgraded: a new process has everything");
    const { err } = await proxy.logged("no admin interface");
    assert.match(JSON.stringify(err), /its folder does not exist/);
    await proxy.logged("started", 2);
    process.kill(Number(pid), "SIGTERM");
    await proxy.ended;
  },
);

lines("given a thread that dies, then a fatal line and exit 1", async () => {
  const code = `setTimeout(() => { throw new Error("boom"); }, 1_000);`;
  const proxy = new Running(["--config", config("", "http")], withCode("!isMainThread", code));
  assert.is((await proxy.ended).code, 1);
  const [fatal] = proxy.log.filter(({ level }) => level === 60);
  assert.is(fatal?.msg, "a thread ended");
  assert.match(JSON.stringify(fatal?.err), /boom/);
});

lines(
  "given a thread that hangs, then the watchdog's line, and an end that does not wait for it",
  async () => {
    const code = `setTimeout(() => { ${block(20_000)} }, 1_000);`;
    const manager = ["env", `NOTIFY_SOCKET=${pathOf("nobody.sock")}`, "WATCHDOG_USEC=400000"];
    const proxy = new Running(
      ["--config", config("", "http")],
      [...manager, ...withCode("!isMainThread", code)],
    );
    await proxy.logged("started");
    assert.is((await proxy.logged("a thread does not answer, the watchdog will end us")).limitMs, 200);
    proxy.kill("SIGTERM");
    await proxy.logged("stopping");
    proxy.kill("SIGTERM");
    await proxy.logged("stopping at once");
    await proxy.logged("not everything closed in time");
    assert.is((await proxy.ended).code, 0);
  },
);
lines.run();
