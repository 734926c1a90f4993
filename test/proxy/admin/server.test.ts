import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { CheckpointGoal } from "../../../proxy/admin/checkpoint-goal.ts";
import { AdminServer } from "../../../proxy/admin/server.ts";
import { AccelproxyError, StartError } from "../../../proxy/errors.ts";
import { FakeProxy, fakeStatus } from "./fake-proxy.ts";

/**
 * Goal: the admin interface answers as documented, only to whom it should, and leaves no socket behind.
 * Method: a server on a unix socket or a loopback port in front of a fake proxy, asked over HTTP.
 */

const logged: unknown[] = [];
const log = pino({ level: "info" }, { write: (line) => void logged.push(JSON.parse(line).msg) });
const folder = mkdtempSync(join(tmpdir(), "accelproxy-admin-"));
const path = join(folder, "admin.sock");
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const unix = { bind: { kind: "unix", path }, allowRemote: false } as const;
const tcp = { bind: { kind: "tcp", host: "127.0.0.1", port: 0 }, allowRemote: false } as const;

/** What the interface says when the proxy puts its sessions away: it ends, or not. */
const ended: string[] = [];
const putAway = async (goal: CheckpointGoal) => {
  const dir = "dir" in goal ? goal.dir : goal.to.host;
  if (dir === "/full") throw new AccelproxyError("ACCEL_IMAGE_WRITE", "/full: no space");
  return { done: { sessions: 2, file: `${dir}/file` }, end: () => void ended.push(dir) };
};

interface Reply {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: string;
}

interface Ask {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** To a unix socket, or to "127.0.0.1:PORT". */
function ask(to: string, url: string, { method = "GET", headers = {}, body = "" }: Ask = {}): Promise<Reply> {
  const place = to.startsWith("/")
    ? { socketPath: to }
    : { host: "127.0.0.1", port: Number(to.split(":")[1]) };
  return new Promise((resolve, reject) => {
    const asked = request({ ...place, path: url, method, headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
      );
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

/** How many sessions there are. */
const drain = (): number => 3;

async function withServer(
  config: typeof unix | typeof tcp | { bind: typeof tcp.bind; allowRemote: boolean },
  body: (to: string, proxy: FakeProxy) => Promise<void>,
  proxy: FakeProxy | undefined = new FakeProxy(),
): Promise<void> {
  const server = await AdminServer.start({ config, view: () => proxy, checkpoint: putAway, drain, log });
  try {
    await body(server.address.replace(/^unix:/, ""), proxy ?? new FakeProxy());
  } finally {
    await server.close();
  }
}

const routes = suite("admin: routes");
for (const [method, url, status, type, body] of [
  ["GET", "/healthz", 200, /json/, /^\{"ok":true\}\n$/],
  ["GET", "/readyz", 200, /json/, /^\{"ready":true,"reasons":\[\]\}\n$/],
  ["GET", "/status", 200, /json/, /"version":"1.2.3"/],
  ["GET", "/status?pretty", 200, /json/, /"version":"1.2.3"/],
  ["GET", "/metrics", 200, /^text\/plain; version=0\.0\.4/, /accelproxy_half_open\{/],
  ["HEAD", "/metrics", 200, /^text\/plain/, /^$/],
  ["HEAD", "/healthz", 200, /json/, /^$/],
  ["POST", "/reload", 200, /json/, /^\{"ok":true\}\n$/],
  [
    "GET",
    "/nowhere",
    404,
    /json/,
    /"paths":\["\/healthz","\/readyz","\/status","\/metrics","\/reload","\/checkpoint","\/drain","\/","\/page.css","\/live.js"\]/,
  ],
  ["GET", "/__proto__", 404, /json/, /nothing at/],
  ["GET", "/status/", 404, /json/, /nothing at/],
  ["GET", "/", 200, /^text\/html/, /^<!doctype html>/],
  ["GET", "/page.css", 200, /^text\/css/, /prefers-color-scheme: dark/],
  ["GET", "/live.js", 200, /^text\/javascript/, /fetch\(/],
  ["POST", "/drain", 200, /json/, /^\{"ok":true,"active":3\}\n$/],
  ["POST", "/checkpoint", 400, /json/, /no goal/],
  ["GET", "/reload", 405, /json/, /takes POST/],
  ["POST", "/status", 405, /json/, /takes GET, HEAD/],
  ["DELETE", "/healthz", 405, /json/, /takes GET, HEAD/],
  ["OPTIONS", "/reload", 405, /json/, /takes POST/],
] as const) {
  routes(`given ${method} ${url}, then ${status}`, () =>
    withServer(unix, async (to) => {
      const reply = await ask(to, url, { method });
      assert.is(reply.status, status);
      assert.match(String(reply.headers["content-type"]), type);
      assert.match(reply.body, body);
      if (status === 405) assert.is(reply.headers.allow, url === "/reload" ? "POST" : "GET, HEAD");
      if (method === "HEAD") assert.ok(Number(reply.headers["content-length"]) > 0);
    }),
  );
}

routes("given /status, then exactly what the proxy says", () =>
  withServer(unix, async (to) => assert.equal(JSON.parse((await ask(to, "/status")).body), fakeStatus)),
);

routes("given reasons against it, then /readyz is 503 and names them", () =>
  withServer(unix, async (to, proxy) => {
    proxy.reasons = ["the pool of origin (10.0.0.7:8080) is not filled yet"];
    const reply = await ask(to, "/readyz");
    assert.is(reply.status, 503);
    assert.equal(JSON.parse(reply.body), { ready: false, reasons: proxy.reasons });
  }),
);

routes("given a bad configuration, then /reload is 422 with the problems", () =>
  withServer(unix, async (to, proxy) => {
    proxy.reloadResult = { ok: false, problems: ["a.yaml:1:1: wrong (right)"] };
    const reply = await ask(to, "/reload", { method: "POST" });
    assert.is(reply.status, 422);
    assert.equal(JSON.parse(reply.body), proxy.reloadResult);
    assert.is(proxy.reloads, 1);
  }),
);

routes("given a proxy that still starts, then alive, not ready, and 503 elsewhere", async () => {
  const server = await AdminServer.start({
    config: unix,
    view: () => undefined,
    checkpoint: putAway,
    drain,
    log,
  });
  try {
    assert.is((await ask(path, "/healthz")).status, 200);
    const ready = await ask(path, "/readyz");
    assert.is(ready.status, 503);
    assert.match(ready.body, /starting/);
    for (const url of ["/status", "/metrics"]) assert.is((await ask(path, url)).status, 503);
    assert.is((await ask(path, "/reload", { method: "POST" })).status, 503);
  } finally {
    await server.close();
  }
});

routes("given a failure inside, then 500 without details, and the next request works", () =>
  withServer(unix, async (to, proxy) => {
    proxy.failure = new Error("a secret");
    const reply = await ask(to, "/status");
    assert.is(reply.status, 500);
    assert.not.match(reply.body, /secret/);
    assert.equal(logged, ["admin request failed"]);
    proxy.failure = undefined;
    assert.is((await ask(to, "/status")).status, 200);
  }),
);
routes(
  "given a checkpoint, then its answer is out before the proxy ends; when it fails the proxy is told nothing",
  async () => {
    await withServer(unix, async (to) => {
      const post = (dir: unknown) =>
        ask(to, "/checkpoint", { method: "POST", body: JSON.stringify({ dir }) });
      const failed = await post("/full");
      assert.is(failed.status, 422);
      assert.equal(JSON.parse(failed.body), { error: "/full: no space", code: "ACCEL_IMAGE_WRITE" });
      for (const dir of ["relative", 7, undefined]) assert.is((await post(dir)).status, 400);
      assert.equal(ended, []);
      const done = await post("/a/b");
      assert.is(done.status, 200);
      assert.equal(JSON.parse(done.body), { sessions: 2, file: "/a/b/file" });
      while (ended.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      assert.equal(ended, ["/a/b"]);
    });
  },
);

routes.run();

const guards = suite("admin: guards");
for (const [host, status] of [
  ["127.0.0.1", 200],
  ["127.0.0.1:9901", 200],
  ["127.9.9.9:1", 200],
  ["localhost:9901", 200],
  ["LOCALHOST", 200],
  ["[::1]:9901", 200],
  ["evil.example", 421],
  ["evil.example:9901", 421],
  ["localhost.evil.example", 421],
  ["127.0.0.1.evil.example", 421],
  ["10.0.0.1:9901", 421],
  ["[::2]", 421],
] as const) {
  guards(`given the Host ${JSON.stringify(host)} on TCP, then ${status}`, () =>
    withServer(tcp, async (to) =>
      assert.is((await ask(to, "/healthz", { headers: { host } })).status, status),
    ),
  );
}

guards("given any Host on a unix socket or with allowRemote, then 200", async () => {
  const headers = { host: "proxy.example" };
  await withServer(unix, async (to) => assert.is((await ask(to, "/healthz", { headers })).status, 200));
  await withServer({ ...tcp, allowRemote: true }, async (to) =>
    assert.is((await ask(to, "/healthz", { headers })).status, 200),
  );
});

guards("given a POST from a web page, then 403 and nothing happens", () =>
  withServer(tcp, async (to, proxy) => {
    const reply = await ask(to, "/reload", { method: "POST", headers: { origin: "https://evil.example" } });
    assert.is(reply.status, 403);
    assert.is(proxy.reloads, 0);
  }),
);

guards("given a body of 64 KiB, then fine; of more, then 413", () =>
  withServer(tcp, async (to, proxy) => {
    const small = await ask(to, "/reload", { method: "POST", body: "x".repeat(65_536) });
    assert.is(small.status, 200);
    const large = await ask(to, "/reload", { method: "POST", body: "x".repeat(65_537) });
    assert.is(large.status, 413);
    assert.is(proxy.reloads, 1);
  }),
);

guards("given headers above 8 KiB, then 431", () =>
  withServer(tcp, async (to) => {
    assert.is((await ask(to, "/healthz", { headers: { x: "y".repeat(9_000) } })).status, 431);
  }),
);

guards("given a client that goes away in the middle, then the next one is answered", () =>
  withServer(unix, async (to) => {
    const socket = connect(to);
    socket.write("POST /reload HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc");
    await new Promise((resolve) => setTimeout(resolve, 20));
    socket.destroy();
    assert.is((await ask(to, "/healthz")).status, 200);
  }),
);

guards("given two requests on one connection, then both are answered", () =>
  withServer(unix, async (to) => {
    const socket = connect(to);
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    socket.write(
      "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    await once(socket, "end");
    assert.is(text.match(/HTTP\/1\.1 200 OK/g)?.length, 2);
  }),
);
guards.run();

const sockets = suite("admin: sockets");
sockets(
  "given a start, then the mode is 0600 and the umask as before; given the end, then it is gone",
  async () => {
    const umask = process.umask();
    await withServer(unix, async () => {
      assert.is(statSync(path).mode & 0o777, 0o600);
      assert.is(process.umask(), umask);
    });
    assert.not(existsSync(path));
  },
);

sockets("given connections that stay open, then close() does not wait for them", async () => {
  const server = await AdminServer.start({
    config: unix,
    view: () => undefined,
    checkpoint: putAway,
    drain,
    log,
  });
  const socket = connect(path);
  await once(socket, "connect");
  const startedMs = performance.now();
  socket.on("error", () => {});
  await server.close();
  assert.ok(performance.now() - startedMs < 1_000);
  socket.destroy();
});

sockets("given the socket of a dead process, then it is replaced", async () => {
  const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => console.log("up"))`;
  const dead = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  await once(dead.stdout, "data");
  dead.kill("SIGKILL");
  await once(dead, "exit");
  assert.ok(existsSync(path), "the dead process left no socket");
  await withServer(unix, async (to) => assert.is((await ask(to, "/healthz")).status, 200));
});

async function refusal(config: typeof unix | typeof tcp): Promise<StartError> {
  try {
    await (
      await AdminServer.start({ config, view: () => undefined, checkpoint: putAway, drain, log })
    ).close();
  } catch (error) {
    if (error instanceof StartError) return error;
    throw error;
  }
  throw new Error("started");
}

sockets("given a live socket, then in use, and it stays", async () => {
  await withServer(unix, async (to) => {
    const error = await refusal(unix);
    assert.is(error.code, "ACCEL_ADDRESS_IN_USE");
    assert.match(error.message, /^admin interface: unix:.* is in use \(/);
    assert.is((await ask(to, "/healthz")).status, 200);
  });
});

sockets("given a file or a link to nowhere in its place, then in use, and it stays", async () => {
  writeFileSync(path, "precious");
  assert.match((await refusal(unix)).message, /is a file and no socket/);
  assert.ok(existsSync(path));
  rmSync(path);
  symlinkSync("/nowhere", path);
  assert.match((await refusal(unix)).message, /is a file and no socket/);
  rmSync(path);
});

sockets("given a folder that does not exist, then one line says so", async () => {
  const error = await refusal({
    ...unix,
    bind: { kind: "unix", path: join(folder, "none/a.sock") as typeof path },
  });
  assert.match(error.message, /its folder does not exist \(create it/);
});

sockets("given a port in use, then one line says so", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await once(other, "listening");
  const bound = other.address();
  if (typeof bound !== "object" || bound === null) throw new Error("no port");
  const error = await refusal({ ...tcp, bind: { ...tcp.bind, port: bound.port as 0 } });
  other.close();
  assert.is(error.code, "ACCEL_ADDRESS_IN_USE");
  assert.match(error.message, new RegExp(`^admin interface: 127.0.0.1:${bound.port} is in use \\(`));
});
sockets.run();
