// Goal: checks find out what a server is, by a connection or by an answer, within their limit, and say it once.
// Method: real servers on the loopback: one that answers, one that refuses, one that is silent.
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checkServer } from "../../../proxy/balance/check.ts";
import { HealthChecks } from "../../../proxy/balance/checks.ts";
import { Line } from "../../../proxy/balance/line.ts";
import { ServerState } from "../../../proxy/balance/server-state.ts";

const LIMIT_MS = 10_000;

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not within ${LIMIT_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

interface Context {
  status: number;
  hosts: (string | undefined)[];
  server: Server;
  port: number;
}

const checks = suite<Context>("checks");
checks.before.each(async (context) => {
  context.status = 200;
  context.hosts = [];
  context.server = createServer((asked, answer) => {
    context.hosts.push(asked.headers.host);
    answer.writeHead(asked.url === "/health?deep" ? context.status : 404).end("x".repeat(100_000));
  }).listen(0, "127.0.0.1");
  await once(context.server, "listening");
  context.port = (context.server.address() as AddressInfo).port;
});
checks.after.each(({ server }) => {
  server.close();
  server.closeAllConnections();
});

const check = (port: number, path: string | null, timeoutMs = 5_000): Promise<string | undefined> =>
  checkServer({ server: { address: "127.0.0.1", port }, timeoutMs, path, host: "origin.test:80" });

for (const [status, problem] of [
  [200, undefined],
  [302, undefined],
  [404, "status 404"],
  [503, "status 503"],
] as const) {
  checks(`given status ${status}, then ${problem ?? "well"}`, async (context) => {
    context.status = status;
    assert.is(await check(context.port, "/health?deep"), problem);
    assert.equal(context.hosts, ["origin.test:80"]);
  });
}

checks("given a port where nobody listens, then refused, both ways", async ({ server, port }) => {
  server.close();
  await once(server, "close");
  assert.equal([await check(port, null), await check(port, "/")], ["ECONNREFUSED", "ECONNREFUSED"]);
});

checks("given a server that accepts and is silent, then well by TCP, timed out by HTTP", async () => {
  const silent = createTcpServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  assert.is(await check(port, null), undefined);
  assert.is(await check(port, "/", 100), "ETIMEDOUT");
  silent.close();
});

checks(
  "given a server that fails and recovers, then it is out and in again, a line for each",
  async (context) => {
    const state = new ServerState();
    const log: string[] = [];
    const note = (_: object, message: string): void => void log.push(message);
    const series = new HealthChecks({
      upstream: "u",
      config: { intervalMs: 20, timeoutMs: 5_000, unhealthyAfter: 3, healthyAfter: 2, path: "/health?deep" },
      line: Line.create(new SharedArrayBuffer(0)),
      log: { debug: note, info: note, warn: note },
    });
    series.servers = [{ endpoint: { address: "127.0.0.1", port: context.port }, state, host: "h" }];
    await until("two good checks", () => context.hosts.length >= 2);
    context.status = 500;
    const from = context.hosts.length;
    await until("unhealthy", () => state.isUnhealthy);
    assert.ok(context.hosts.length >= from + 3, `${context.hosts.length - from} checks`);
    context.status = 200;
    await until("healthy", () => !state.isUnhealthy);
    series.stop();
    assert.equal(log, ["server unhealthy: its checks fail", "server healthy again: its checks succeed"]);
  },
);

checks("given a server that is down at the start, then its first check decides", async (context) => {
  context.status = 500;
  const state = new ServerState();
  const series = new HealthChecks({
    upstream: "u",
    config: {
      intervalMs: 60_000,
      timeoutMs: 5_000,
      unhealthyAfter: 9,
      healthyAfter: 2,
      path: "/health?deep",
    },
    line: Line.create(new SharedArrayBuffer(0)),
    log: { debug: () => undefined, info: () => undefined, warn: () => undefined },
  });
  series.servers = [{ endpoint: { address: "127.0.0.1", port: context.port }, state, host: "h" }];
  await until("unhealthy", () => state.condition === "unhealthy");
  series.stop();
});
checks.run();
