// Goal: requests go to servers as the configuration says, whichever worker has them: limits hold for all workers together,
// who finds no place waits in line or hears 503, servers that refuse are left alone, and a new authority is believed.
// Method: several http workers; real origins that count what they have at a time; an origin that does not listen.
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { type AddressInfo, createServer as createRawServer } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FAILURES_MAX } from "../../../proxy/balance/limits.ts";
import { makeCertificate } from "../../library/origin.ts";
import { fileOf } from "../command.ts";
import { HttpProxy } from "./http-proxy.ts";

const WORKERS = 3;

/** What a test opened, closed after it, however it ended. */
const closers: (() => unknown)[] = [];

async function start(config: string): Promise<HttpProxy> {
  const proxy = await HttpProxy.start(config);
  closers.push(() => proxy.stop());
  return proxy;
}

interface Answer {
  readonly status: number | undefined;
  readonly body: string;
}

/** One request on a connection of its own, so that the kernel chooses the worker. */
async function get(port: number): Promise<Answer> {
  const [response] = (await once(request({ port, agent: false }).end(), "response")) as [IncomingMessage];
  return { status: response.statusCode, body: await text(response) };
}

const gets = (port: number, count: number): Promise<Answer[]> =>
  Promise.all(Array.from({ length: count }, () => get(port)));

/** Answers when it is told to, and knows how many requests it had at a time. */
class Origin {
  readonly #server = createServer((_, response) => this.#onRequest(response));
  readonly #waiting: ServerResponse[] = [];
  busiest = 0;
  served = 0;

  async listen(): Promise<number> {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    closers.push(() => this.#server.close().closeAllConnections());
    return (this.#server.address() as AddressInfo).port;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Answers those it has. */
  answer(): void {
    for (const response of this.#waiting.splice(0)) {
      this.served += 1;
      response.end("hello");
    }
  }

  async until(count: number): Promise<void> {
    while (this.waiting < count) await sleep(2);
  }

  #onRequest(response: ServerResponse): void {
    this.#waiting.push(response);
    this.busiest = Math.max(this.busiest, this.waiting);
  }
}

/** A port where connects are refused. */
async function refusingPort(): Promise<number> {
  const server = createRawServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

const config = (of: string, more = ""): string => `
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o }]
upstreams: { o: { servers: [${of}] ${more} } }
httpWorkers: ${WORKERS}`;

const servers = suite("http: servers");
servers.after.each(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

servers(
  "given maxConnections of a server, then all workers together keep to it, and all are served",
  async () => {
    const origin = new Origin();
    const proxy = await start(config(`{ address: "127.0.0.1:${await origin.listen()}", maxConnections: 2 }`));
    const answers = gets(proxy.port("web"), 12);
    for (let served = 0; served < 12; served += 2) {
      await origin.until(2);
      await sleep(20); // a third would have come
      origin.answer();
    }
    for (const answer of await answers) assert.equal(answer, { status: 200, body: "hello" });
    assert.is(origin.busiest, 2);
  },
);

servers("given a full line, then who comes hears 503, and who stands in it is served", async () => {
  const origin = new Origin();
  const server = `{ address: "127.0.0.1:${await origin.listen()}", maxConnections: 1 }`;
  const proxy = await start(config(server, ", maxQueue: 2"));
  const port = proxy.port("web");
  const first = get(port);
  await origin.until(1);
  const others = gets(port, 6);
  // Nobody gets his turn before all that is refused was refused.
  await proxy.logged("request", 4);
  const answering = setInterval(() => origin.answer(), 5);
  closers.push(() => clearInterval(answering));
  const statuses = [await first, ...(await others)].map(({ status }) => status);
  assert.equal(statuses.filter((status) => status === 200).length, 3);
  assert.equal(statuses.filter((status) => status === 503).length, 4);
  const refusal = (await others).find(({ status }) => status === 503);
  const lines = proxy.requests.filter(({ status }) => status === 503);
  assert.is(lines.length, 4);
  assert.ok(lines.some(({ requestId }) => refusal!.body.includes(String(requestId))));
});

servers("given a server that refuses, then others answer, and soon nobody tries it any more", async () => {
  const origin = new Origin();
  const answering = setInterval(() => origin.answer(), 1);
  closers.push(() => clearInterval(answering));
  const refusing = `127.0.0.1:${await refusingPort()}`;
  const both = `{ address: "${refusing}" }, { address: "127.0.0.1:${await origin.listen()}" }`;
  const proxy = await start(config(both));
  const port = proxy.port("web");
  for (const answer of await gets(port, 30)) assert.is(answer.status, 200);
  const avoided = await proxy.logged("server avoided: connects fail");
  assert.is(avoided.server, refusing);
  const failures = (): number => proxy.requests.filter(({ tries }) => tries === 2).length;
  await proxy.logged("request", 30);
  assert.ok(failures() >= FAILURES_MAX, `${failures()} requests tried it`);
  const before = failures();
  for (const answer of await gets(port, 10)) assert.is(answer.status, 200);
  await proxy.logged("request", 40);
  // One of them may have been sent to see whether it accepts connections again.
  assert.ok(failures() <= before + 1, `${failures() - before} requests tried it again`);
  assert.is(origin.served, 40);
});

servers("given another authority in the file, then SIGHUP has it believed, by every worker", async () => {
  const { cert, key } = makeCertificate(["origin.test"]);
  const origin = createSecureServer({ cert, key }, (_, response) => void response.end("hello"));
  origin.on("tlsClientError", () => {});
  await once(origin.listen(0, "127.0.0.1"), "listening");
  closers.push(() => origin.close().closeAllConnections());
  const { port } = origin.address() as AddressInfo;
  const ca = fileOf("believed.pem", makeCertificate(["other.test"]).cert);
  const text = config(`{ address: "127.0.0.1:${port}" }`, `, tls: { ca: ${ca}, servername: origin.test }`);
  const proxy = await start(text);
  for (const { status } of await gets(proxy.port("web"), 9)) assert.is(status, 502);
  fileOf("believed.pem", cert);
  await proxy.reload(text);
  for (const answer of await gets(proxy.port("web"), 9)) assert.equal(answer, { status: 200, body: "hello" });
});

servers.run();
