import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect, createServer, type Server, type Socket } from "node:net";
import { dirname } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { COMMAND, fileOf, pathOf, Running, runCommand, UNPRIVILEGED, withCode } from "./command.ts";

/**
 * Goal: the life of `accelproxy --config`: start, log, signals, reload, every way to end, and traffic meanwhile.
 * Method: the built command line between real sockets on loopback. Acceleration needs root; without it the
 * same runs plainly.
 */

const isRoot = process.getuid?.() === 0;
const oneLine = /^accelproxy: [^\n]+\n$/;

interface Setup {
  readonly name: string;
  readonly upstreamPort: number;
  readonly bind?: string;
  readonly more?: string;
}

let files = 0;

function configFile({ name, upstreamPort, bind = "127.0.0.1:0", more = "" }: Setup): string {
  files += 1;
  const acceleration = more.includes("acceleration") ? "" : `acceleration: ${isRoot ? "required" : "off"}\n`;
  const path = fileOf(
    `${files}.yaml`,
    `listeners: [{ name: ${name}, bind: '${bind}', upstream: origin, takeAfter: 1ms }]
upstreams: { origin: { servers: [{ address: '127.0.0.1:${upstreamPort}' }] } }
workers: 1
${acceleration}${more}\n`,
  );
  chmodSync(dirname(path), 0o755);
  return path;
}

/** Sends every byte back, and closes when the client does. */
async function echoServer(): Promise<{ port: number; server: Server }> {
  const server = createServer((socket) => {
    socket.on("error", () => socket.destroy());
    socket.pipe(socket);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  if (typeof bound !== "object" || bound === null) throw new Error("no port");
  return { port: bound.port, server };
}

const portOf = (address: unknown): number => Number(String(address).split(":").at(-1));

async function open(address: unknown): Promise<Socket> {
  const socket = connect(portOf(address), "127.0.0.1");
  await once(socket, "connect");
  return socket;
}

async function echo(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  const [chunk] = await once(socket, "data");
  return String(chunk);
}

function ask(socketPath: string, method: string, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method, path, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text) => {
        body += text;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asked.on("error", reject).end();
  });
}

const { port: upstreamPort, server: upstream } = await echoServer();
upstream.unref();

const life = suite("run: life");
life("given traffic and SIGTERM, then sessions finish, the socket goes, exit 0", async () => {
  const admin = pathOf("life.sock");
  const proxy = new Running([
    "--config",
    configFile({ name: "web", upstreamPort, more: `admin: { bind: 'unix:${admin}' }` }),
  ]);
  const { listener, address, msg } = await proxy.logged("listening");
  assert.equal([listener, msg], ["web", "listening"]);
  assert.match(String(address), /^127\.0\.0\.1:\d+$/);
  assert.is((await ask(admin, "GET", "/healthz")).status, 200);
  const socket = await open(address);
  assert.is(await echo(socket, "hello"), "hello");
  const status = JSON.parse((await ask(admin, "GET", "/status")).body);
  assert.equal([status.listeners[0].active, status.listeners[0].total, status.workers], [1, 1, 1]);
  assert.match(
    (await ask(admin, "GET", "/metrics")).body,
    /accelproxy_connections_active\{listener="web"\} 1\n/,
  );

  proxy.kill("SIGTERM");
  await proxy.logged("stopping");
  assert.is(await echo(socket, "still here"), "still here");
  await assertRefused(address);
  assert.is((await ask(admin, "GET", "/readyz")).status, 503);
  socket.end();
  const { code, stderr } = await proxy.ended;
  assert.is(code, 0);
  assert.is(stderr, "");
  assert.not(existsSync(admin));
});

async function assertRefused(address: unknown): Promise<void> {
  for (let n = 0; n < 50; n++) {
    const socket = connect(portOf(address), "127.0.0.1");
    const refused = await new Promise((resolve) => {
      socket.on("connect", () => resolve(false)).on("error", () => resolve(true));
    });
    socket.destroy();
    if (refused === true) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("still accepting");
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  life(`given a session that stays and ${signal} twice, then exit 0 at once`, async () => {
    const proxy = new Running(["--config", configFile({ name: "web", upstreamPort })]);
    const socket = await open((await proxy.logged("listening")).address);
    assert.is(await echo(socket, "x"), "x");
    socket.on("error", () => {});
    proxy.kill(signal);
    await proxy.logged("stopping");
    const startedMs = performance.now();
    proxy.kill(signal);
    const { code } = await proxy.ended;
    assert.is(code, 0);
    assert.ok(performance.now() - startedMs < 1_500);
    socket.destroy();
  });
}

life("given a session that stays, then drainTimeout ends it, exit 0", async () => {
  const proxy = new Running([
    "--config",
    configFile({ name: "web", upstreamPort, more: "drainTimeout: 300ms" }),
  ]);
  const socket = await open((await proxy.logged("listening")).address);
  assert.is(await echo(socket, "x"), "x");
  socket.on("error", () => {});
  proxy.kill("SIGTERM");
  const startedMs = performance.now();
  const { code } = await proxy.ended;
  assert.is(code, 0);
  const elapsedMs = performance.now() - startedMs;
  assert.ok(elapsedMs > 250 && elapsedMs < 3_000, `${elapsedMs} ms`);
  socket.destroy();
});

life("given SIGTERM while it starts, then exit 0", async () => {
  const proxy = new Running(["--config", configFile({ name: "web", upstreamPort })]);
  await proxy.logged("starting");
  proxy.kill("SIGTERM");
  assert.is((await proxy.ended).code, 0);
});

life("given a reader of the log that goes away, then the proxy goes on, quietly", async () => {
  const admin = pathOf("pipe.sock");
  const file = configFile({
    name: "web",
    upstreamPort,
    more: `admin: { bind: 'unix:${admin}' }\nlog: { level: debug }`,
  });
  const child = spawn(COMMAND[0]!, [...COMMAND.slice(1), "--config", file], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const killIt = (): void => void child.kill("SIGKILL");
  process.once("exit", killIt);
  // A test that fails half-way would wait for it until the file's deadline.
  const tooLate = setTimeout(killIt, 60_000);
  let stderr = "";
  child.stderr.on("data", (text) => {
    stderr += text;
  });
  await once(child.stdout, "data");
  child.stdout.destroy();
  const deadlineMs = performance.now() + 30_000;
  while (performance.now() < deadlineMs) {
    const answer = await ask(admin, "GET", "/readyz").catch(() => undefined);
    if (answer?.status === 200) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const used = () => {
    const fields = readFileSync(`/proc/${child.pid}/stat`, "latin1").split(") ")[1]!.split(" ");
    return Number(fields[11]) + Number(fields[12]); // utime and stime, in ticks of 10 ms
  };
  assert.is((await ask(admin, "POST", "/reload")).status, 200);
  const before = used();
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.ok(used() - before < 20, "busy after its reader went away"); // of 50 ticks
  child.kill("SIGTERM");
  const [code] = await once(child, "close");
  clearTimeout(tooLate);
  process.off("exit", killIt);
  assert.is(code, 0);
  assert.is(stderr, "");
});
life.run();

/** Code that runs once the proxy looks after uncaught errors, however long its start takes. */
function whenReady(code: string): string {
  return `const timer = setInterval(() => {
    if (process.listenerCount("uncaughtException") === 0) return;
    clearInterval(timer);
    setTimeout(() => { ${code} }, 500);
  }, 20);`;
}

const crashes = suite("run: crashes");
for (const [given, where, code, msg] of [
  ["an uncaught error", "isMainThread", whenReady(`throw new Error("boom");`), "uncaught error"],
  [
    "an unhandled rejection",
    "isMainThread",
    whenReady(`Promise.reject(new Error("boom"));`),
    "uncaught error",
  ],
  ["a thread that fails at its start", "!isMainThread", `throw new Error("boom");`, undefined],
] as const) {
  crashes(`given ${given}, then exit 1 with a line on stderr and no socket left`, async () => {
    const admin = pathOf("crash.sock");
    const more = `admin: { bind: 'unix:${admin}' }`;
    const proxy = new Running(
      ["--config", configFile({ name: "web", upstreamPort, more })],
      withCode(where, code),
    );
    const { code: exit, stderr } = await proxy.ended;
    assert.is(exit, 1);
    assert.match(stderr, oneLine);
    assert.match(stderr, /boom/);
    assert.not(existsSync(admin));
    if (msg === undefined) return;
    const fatal = proxy.log.find(({ level }) => level === 60);
    assert.is(fatal?.msg, msg);
    assert.match(JSON.stringify(fatal?.err), /boom.*stack/);
  });
}
crashes.run();

const reload = suite("run: reload");
reload("given SIGHUP and a new listener, then it listens and sessions stay", async () => {
  const file = configFile({ name: "web", upstreamPort });
  const proxy = new Running(["--config", file]);
  const socket = await open((await proxy.logged("listening")).address);
  assert.is(await echo(socket, "x"), "x");
  const listener = (name: string) =>
    `{ name: ${name}, bind: '127.0.0.1:0', upstream: origin, takeAfter: 1ms }`;
  const text = readFileSync(file, "utf8");
  writeFileSync(
    file,
    text.replace(/^listeners: .*$/m, `listeners: [${listener("web")}, ${listener("other")}]`),
  );
  proxy.kill("SIGHUP");
  await proxy.logged("configuration reloaded");
  const listening = await proxy.logged("listening", 2);
  assert.is(listening.listener, "other");
  const another = await open(listening.address);
  assert.is(await echo(another, "y"), "y");
  assert.is(await echo(socket, "z"), "z");
  socket.end();
  another.end();
  proxy.kill("SIGTERM");
  assert.is((await proxy.ended).code, 0);
});

reload("given a bad file, then its problems are logged and told, and the old one stays", async () => {
  const admin = pathOf("reload.sock");
  const file = configFile({ name: "web", upstreamPort, more: `admin: { bind: 'unix:${admin}' }` });
  const proxy = new Running(["--config", file]);
  const { address } = await proxy.logged("listening");
  writeFileSync(file, "listeners: 3\n");
  const answer = await ask(admin, "POST", "/reload");
  assert.is(answer.status, 422);
  assert.match(JSON.parse(answer.body).problems[0], new RegExp(`^${file}:1:`));
  proxy.kill("SIGHUP");
  const logged = await proxy.logged("configuration not reloaded, the old one stays", 2);
  assert.equal(logged.problems, JSON.parse(answer.body).problems);
  const socket = await open(address);
  assert.is(await echo(socket, "x"), "x");
  socket.end();
  proxy.kill("SIGTERM");
  assert.is((await proxy.ended).code, 0);
});
reload.run();

const PLAINLY = "not accelerating: privileges are missing, sessions connect plainly";

const refusals = suite("run: refusals");
refusals("given a port in use, then one line that names it and exit 1", async () => {
  const { code, stderr } = await runCommand([
    "--config",
    configFile({ name: "web", upstreamPort, bind: `127.0.0.1:${upstreamPort}` }),
  ]);
  assert.is(code, 1);
  assert.match(stderr, oneLine);
  assert.match(stderr, new RegExp(`127\\.0\\.0\\.1:${upstreamPort}`));
  assert.match(stderr, /in use/);
});

refusals("given an address of another host, then one line and exit 1", async () => {
  const { code, stderr } = await runCommand([
    "--config",
    configFile({ name: "web", upstreamPort, bind: "192.0.2.1:80" }),
  ]);
  assert.is(code, 1);
  assert.match(stderr, oneLine);
  assert.match(stderr, /192\.0\.2\.1:80/);
});

refusals("given an admin socket that is alive, then one line, exit 1, and the first lives on", async () => {
  const admin = pathOf("twice.sock");
  const more = `admin: { bind: 'unix:${admin}' }`;
  const first = new Running(["--config", configFile({ name: "web", upstreamPort, more })]);
  assert.is((await first.logged("admin interface listening")).address, `unix:${admin}`);
  await first.logged("started");
  const { code, stderr } = await runCommand(["--config", configFile({ name: "web", upstreamPort, more })]);
  assert.is(code, 1);
  assert.match(stderr, oneLine);
  assert.match(stderr, /twice\.sock is in use/);
  assert.is((await ask(admin, "GET", "/healthz")).status, 200);
  first.kill("SIGTERM");
  assert.is((await first.ended).code, 0);
});

refusals("given kill -9, then the next start takes the admin socket over", async () => {
  const admin = pathOf("stale.sock");
  const more = `admin: { bind: 'unix:${admin}' }`;
  const first = new Running(["--config", configFile({ name: "web", upstreamPort, more })]);
  await first.logged("started");
  first.kill("SIGKILL");
  await first.ended;
  assert.ok(existsSync(admin));
  const second = new Running(["--config", configFile({ name: "web", upstreamPort, more })]);
  await second.logged("started");
  assert.is((await ask(admin, "GET", "/healthz")).status, 200);
  second.kill("SIGTERM");
  assert.is((await second.ended).code, 0);
});

if (isRoot) {
  refusals("given no capabilities and acceleration: required, then exit 77 and the remedy", async () => {
    const file = configFile({ name: "web", upstreamPort, more: "acceleration: required" });
    const { code, stdout, stderr } = await runCommand(["--config", file], UNPRIVILEGED);
    assert.is(code, 77);
    assert.is(stdout, "");
    assert.match(stderr, oneLine);
    for (const word of [
      "CAP_NET_RAW",
      "CAP_NET_ADMIN",
      "setcap",
      "AmbientCapabilities",
      "--cap-add",
      "preferred",
    ]) {
      assert.match(stderr, word);
    }
  });

  refusals("given one capability of two, then only the other is named", async () => {
    const file = configFile({ name: "web", upstreamPort, more: "acceleration: required" });
    const prefix = [...UNPRIVILEGED, "--inh-caps=+net_admin", "--ambient-caps=+net_admin"];
    const { code, stderr } = await runCommand(["--config", file], prefix);
    assert.is(code, 77);
    assert.match(stderr, /^accelproxy: CAP_NET_RAW missing/);
  });

  for (const [acceleration, warnings] of [
    ["preferred", 1],
    ["off", 0],
  ] as const) {
    refusals(
      `given no capabilities and acceleration: ${acceleration}, then ${warnings} warning and plain traffic`,
      async () => {
        const file = configFile({ name: "web", upstreamPort, more: `acceleration: ${acceleration}` });
        const proxy = new Running(["--config", file], UNPRIVILEGED);
        const socket = await open((await proxy.logged("listening")).address);
        assert.is(await echo(socket, "plain"), "plain");
        socket.end();
        const warned = proxy.log.filter(({ level }) => level === 40).map((line) => line.msg);
        assert.equal(warned, warnings === 0 ? [] : [PLAINLY]);
        proxy.kill("SIGTERM");
        assert.is((await proxy.ended).code, 0);
      },
    );
  }

  refusals("given both capabilities as an ordinary user, then it accelerates", async () => {
    const file = configFile({ name: "web", upstreamPort, more: "acceleration: required" });
    const prefix = [...UNPRIVILEGED, "--inh-caps=+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw"];
    const proxy = new Running(["--config", file], prefix);
    const socket = await open((await proxy.logged("listening")).address);
    assert.is(await echo(socket, "x"), "x");
    socket.end();
    assert.is((await proxy.logged("starting")).accelerate, true);
    proxy.kill("SIGTERM");
    assert.is((await proxy.ended).code, 0);
  });
}
refusals.run();
