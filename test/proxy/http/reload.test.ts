// Goal: a reload refuses nobody of an http listener: who comes while it changes its mode, its TLS or its address, and who
// waits in the backlog of one that goes.
// Method: real clients in a row, a request each, while two configurations are loaded in turn; a client whom nobody has
// accepted when the listener is told to go.
import { once } from "node:events";
import { createServer, request } from "node:http";
import { type AddressInfo, connect, createServer as createRawServer } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { HttpProxy } from "./http-proxy.ts";

const origin = createServer((_, response) => response.end("hello")).listen(0, "127.0.0.1");
await once(origin, "listening");
origin.unref();
const upstreams = `upstreams: { o: { servers: [{ address: "127.0.0.1:${portOf(origin)}" }] } }`;

function portOf(server: { address(): AddressInfo | string | null }): number {
  return (server.address() as AddressInfo).port;
}

/** A port that nobody has. */
async function freePort(): Promise<number> {
  const server = createRawServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const port = portOf(server);
  server.close();
  await once(server, "close");
  return port;
}

async function get(port: number): Promise<string> {
  const asked = request({ host: "127.0.0.1", port, agent: false }).end();
  const [response] = await once(asked, "response");
  return text(response);
}

const reloads = suite("http: reload");

reloads("given listeners that change their mode in turn, then every client is served", async () => {
  const ports = [await freePort(), await freePort()] as const;
  const listeners = (modes: readonly string[]): string =>
    `listeners: [${modes.map((mode, at) => `{ name: l${at}, bind: "127.0.0.1:${ports[at]}", mode: ${mode}, upstream: o }`).join(", ")}]\n${upstreams}`;
  const configs = [listeners(["http", "tcp"]), listeners(["tcp", "http"])] as const;
  const proxy = await HttpProxy.start(configs[0]);
  let isDone = false;
  const clients = ports.flatMap((port) =>
    [1, 2].map(async () => {
      let served = 0;
      for (; !isDone; served++) assert.is(await get(port), "hello");
      return served;
    }),
  );
  const load = Promise.all(clients);
  load.catch(() => {}); // awaited below
  for (let turn = 1; turn <= 10; turn++) {
    await proxy.reload(configs[turn % 2]!);
    await sleep(30);
  }
  isDone = true;
  for (const served of await load) assert.ok(served >= 1, `${served} requests of a client`);
  await proxy.stop();
});

reloads("given clients nobody has accepted when their listener goes, then they are served", async () => {
  const [port, other] = [await freePort(), await freePort()];
  const config = (at: number): string =>
    `listeners: [{ name: web, bind: "127.0.0.1:${at}", mode: http, upstream: o }]\n${upstreams}`;
  const proxy = await HttpProxy.start(config(port));
  // The whole process stands still while they come, so that they are in the backlog when it reads its orders.
  proxy.signal("SIGSTOP");
  const waiting = [1, 2, 3, 4].map(() => connect(port, "127.0.0.1"));
  const answers = waiting.map((socket) => text(socket));
  for (const answer of answers) answer.catch(() => {}); // awaited below
  await Promise.all(waiting.map((socket) => once(socket, "connect")));
  for (const socket of waiting) socket.write("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
  const reloaded = proxy.reload(config(other));
  proxy.signal("SIGCONT");
  await reloaded;
  for (const answer of answers) assert.match(await answer, /^HTTP\/1.1 200 OK\r\n[\s\S]*hello/);
  assert.is(await get(other), "hello");
  const refused: unknown = await get(port).catch((error: unknown) => error);
  assert.match(String(refused), "ECONNREFUSED");
  await proxy.stop();
});
reloads.run();
