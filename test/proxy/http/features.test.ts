// Goal: what HTTP has beyond a request and its answer goes through: streams, 1xx, trailers, upgrades, ends; and errors
// of either side are what the other one hears.
// Method: real sockets on loopback; the upstream is Node's server where it must be right, and raw bytes where not.
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { type AddressInfo, connect, createServer as createRawServer, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { WebSocket, WebSocketServer } from "ws";
import { HttpProxy } from "./http-proxy.ts";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Servers of a test, ended after it. */
const ends: (() => void)[] = [];

async function upstream(
  handler: Handler,
  prepare: (server: ReturnType<typeof createServer>) => void = () => {},
) {
  const server = createServer({ keepAliveTimeout: 60_000 }, handler).listen(0, "127.0.0.1");
  prepare(server);
  await once(server, "listening");
  ends.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

/** Bytes instead of HTTP: what is sent when a head has come, on the nth connection. */
async function rawUpstream(onHead: (socket: Socket, nth: number) => void): Promise<number> {
  let count = 0;
  const server = createRawServer((socket) => {
    count += 1;
    const nth = count;
    let bytes = "";
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      bytes += chunk.toString("latin1");
      if (!bytes.includes("\r\n\r\n")) return;
      bytes = "";
      onHead(socket, nth);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  ends.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

const servers = (...ports: readonly number[]): string =>
  ports.map((port) => `{ address: "127.0.0.1:${port}" }`).join(", ");

/** A listener of the proxy, made for one test. */
interface Front {
  readonly port: number;
  /** Access lines, as soon as there are `count`. */
  lines(count: number): Promise<Record<string, unknown>[]>;
}

let shared: HttpProxy;
let fronts = 0;

/** Has the proxy listen anew, in front of upstream o, which is at these ports. */
async function front(
  ports: readonly number[],
  { listener = "", more = "", upstreams = "" } = {},
): Promise<Front> {
  fronts += 1;
  const name = `web${fronts}`;
  await shared.reload(`
listeners:
  - { name: ${name}, bind: "127.0.0.1:0", mode: http, upstream: o ${listener} }
upstreams:
  o: { servers: [${servers(...ports)}] ${more} }
${upstreams}`);
  return {
    port: shared.port(name),
    lines: async (count) => {
      for (let left = 500; left > 0; left--) {
        const lines = shared.requests.filter((line) => line.listener === name);
        if (lines.length >= count) return lines;
        await sleep(10);
      }
      throw new Error(`not ${count} requests logged`);
    },
  };
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
  readonly trailers: IncomingMessage["trailers"];
  readonly hints: readonly number[];
}

async function ask(
  proxy: Front,
  path: string,
  { method = "GET", headers = {}, body = "", trailers = {} as Record<string, string> } = {},
): Promise<Answer> {
  const asked = request({ port: proxy.port, host: "127.0.0.1", path, method, headers, agent: false });
  const hints: number[] = [];
  asked.on("information", ({ statusCode }) => hints.push(statusCode));
  const answered = once(asked, "response") as Promise<[IncomingMessage]>;
  if (Object.keys(trailers).length > 0) {
    asked.write(body);
    asked.addTrailers(trailers);
    asked.end();
  } else asked.end(body);
  const [response] = await answered;
  const got = await text(response);
  const { statusCode: status = 0, trailers: ended } = response;
  return { status, headers: response.headers, body: got, trailers: ended, hints };
}

const features = suite("http: features");
features.before(async () => {
  shared = await HttpProxy.start(`
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o }]
upstreams: { o: { servers: [{ address: "127.0.0.1:9" }] } }`);
});
features.after(async () => {
  await shared.stop();
});
features.after.each(() => {
  for (const end of ends.splice(0)) end();
});

features("given an answer in parts, then each part arrives before the next is made", async () => {
  let release = (): void => {};
  const port = await upstream((_, response) => {
    response.write("first");
    release = () => response.end("second");
  });
  const proxy = await front([port]);
  const asked = request({ port: proxy.port, host: "127.0.0.1" }).end();
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  const [first] = (await once(response, "data")) as [Buffer];
  assert.is(first.toString(), "first");
  release();
  assert.is(await text(response), "second");
});

features(
  "given 20 MiB both ways and a slow reader, then every byte arrives and memory is bounded",
  async () => {
    const port = await upstream((asked, response) => void asked.pipe(response));
    const proxy = await front([port]);
    const block = randomBytes(1 << 20);
    const blocks = 20;
    const [sent, got] = [createHash("sha256"), createHash("sha256")];
    const asked = request({ port: proxy.port, host: "127.0.0.1", method: "POST" });
    const received = (async () => {
      const [response] = (await once(asked, "response")) as [IncomingMessage];
      let length = 0;
      for await (const chunk of response as AsyncIterable<Buffer>) {
        got.update(chunk);
        length += chunk.length;
        if (length % 7 === 0) await sleep(1);
      }
      return length;
    })();
    for (let index = 0; index < blocks; index++) {
      sent.update(block);
      if (!asked.write(block)) await once(asked, "drain");
    }
    asked.end();
    assert.is(await received, blocks << 20);
    assert.is(got.digest("hex"), sent.digest("hex"));
  },
);

features("given Expect: 100-continue, then the upstream decides", async () => {
  const port = await upstream(
    (asked, response) => void asked.pipe(response),
    (server) => {
      server.on("checkContinue", (asked, response) => {
        if (asked.url === "/no") {
          response.writeHead(403).end("no");
          return;
        }
        response.writeContinue();
        asked.pipe(response);
      });
    },
  );
  const proxy = await front([port]);
  const send = async (path: string): Promise<readonly [boolean, number, string]> => {
    const headers = { expect: "100-continue", "content-length": 5 };
    const asked = request({ port: proxy.port, host: "127.0.0.1", path, method: "POST", headers });
    let isAsked = false;
    asked.on("continue", () => {
      isAsked = true;
      asked.end("hello");
    });
    asked.flushHeaders();
    const [response] = (await once(asked, "response")) as [IncomingMessage];
    const body = await text(response);
    asked.destroy();
    return [isAsked, response.statusCode!, body];
  };
  assert.equal(await send("/yes"), [true, 200, "hello"]);
  assert.equal(await send("/no"), [false, 403, "no"]);
});

features("given trailers and early hints, then they go through", async () => {
  const port = await upstream(async (asked, response) => {
    response.writeEarlyHints({ link: "</style.css>; rel=preload" });
    await text(asked);
    response.writeHead(200, { trailer: "x-sum" });
    response.write("body");
    response.addTrailers({ "x-sum": String(asked.trailers["x-count"]) });
    response.end();
  });
  const proxy = await front([port]);
  const headers = { "transfer-encoding": "chunked", trailer: "x-count" };
  const { hints, trailers } = await ask(proxy, "/", {
    method: "POST",
    headers,
    body: "x",
    trailers: { "x-count": "7" },
  });
  assert.equal(hints, [103]);
  assert.is(trailers["x-sum"], "7");
});

features("given HEAD, 204 and 304, then there is no body and the length stays", async () => {
  const port = await upstream((asked, response) => {
    if (asked.url === "/304") response.writeHead(304, { etag: '"1"' }).end();
    else if (asked.url === "/204") response.writeHead(204).end();
    else
      response
        .writeHead(200, { "content-length": 1_000 })
        .end(asked.method === "HEAD" ? "" : "x".repeat(1_000));
  });
  const proxy = await front([port], { more: ", reuse: 5s" });
  const head = await ask(proxy, "/", { method: "HEAD" });
  assert.equal([head.status, head.headers["content-length"], head.body], [200, "1000", ""]);
  assert.is((await ask(proxy, "/304")).headers.etag, '"1"');
  assert.is((await ask(proxy, "/204")).status, 204);
  assert.is((await ask(proxy, "/")).body.length, 1_000);
});

features("given a WebSocket, then messages go both ways and its close is passed on", async () => {
  const port = await upstream(
    (_, response) => void response.end(),
    (server) => {
      const sockets = new WebSocketServer({ server });
      sockets.on("connection", (socket) => {
        socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
      });
    },
  );
  const proxy = await front([port]);
  const socket = new WebSocket(`ws://127.0.0.1:${proxy.port}/chat`);
  await once(socket, "open");
  const echo = async (message: string | Buffer): Promise<Buffer> => {
    socket.send(message);
    const [data] = (await once(socket, "message")) as [Buffer];
    return data;
  };
  assert.is((await echo("hello")).toString(), "hello");
  const large = randomBytes(1 << 20);
  assert.ok(large.equals(await echo(large)));
  socket.close(4_001, "done");
  const [code] = (await once(socket, "close")) as [number];
  assert.is(code, 4_001);
  const [line = {}] = await proxy.lines(1);
  assert.equal([line.status, line.path], [101, "/chat"]);
});

features("given a refused upgrade, then the refusal is what the client hears", async () => {
  const port = await rawUpstream((socket) => {
    socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
  });
  const proxy = await front([port]);
  const socket = new WebSocket(`ws://127.0.0.1:${proxy.port}/`);
  const [error] = (await once(socket, "error")) as [Error];
  assert.match(error.message, "403");
});

features("given headers of where it comes from, then they are added to and replaced", async () => {
  const port = await upstream((asked, response) => response.end(JSON.stringify(asked.headers)));
  const proxy = await front([port], { more: ", hostHeader: api.internal" });
  const headers = {
    host: "a.example:81",
    "x-forwarded-for": "10.0.0.1",
    "x-forwarded-proto": "https",
    via: "1.0 other",
    "x-request-id": "mine",
    connection: "close, x-hop",
    "x-hop": "1",
  };
  const got = JSON.parse((await ask(proxy, "/", { headers })).body) as Record<string, string>;
  assert.is(got.host, "api.internal");
  assert.is(got["x-forwarded-for"], "10.0.0.1, 127.0.0.1");
  assert.is(got["x-forwarded-proto"], "http");
  assert.is(got["x-forwarded-host"], "a.example:81");
  assert.is(got.forwarded, 'for=127.0.0.1;host="a.example:81";proto=http');
  assert.is(got.via, "1.0 other, 1.1 accelproxy");
  assert.is(got["x-request-id"], "mine");
  assert.is(got["x-hop"], undefined);
});

features("given routes, then host and path decide, and no detour leads around them", async () => {
  const named = (name: string): Promise<number> => upstream((_, response) => void response.end(name));
  const [o, api, admin, sub] = await Promise.all(["o", "api", "admin", "sub"].map(named));
  const routes = [
    "{ pathPrefix: /api, upstream: api }",
    "{ pathPrefix: /api/admin, upstream: admin }",
    `{ host: "*.sub.example", upstream: sub }`,
  ];
  const proxy = await front([o!], {
    listener: `, routes: [${routes.join(", ")}]`,
    upstreams: `
  api: { servers: [${servers(api!)}] }
  admin: { servers: [${servers(admin!)}] }
  sub: { servers: [${servers(sub!)}] }`,
  });
  for (const [host, path, want] of [
    ["a.example", "/", "o"],
    ["a.example", "/apis", "o"],
    ["a.example", "/api", "api"],
    ["a.example", "/api?x=1", "api"],
    ["a.example", "/api/admin/users", "admin"],
    ["a.example", "/x/../api/admin", "admin"],
    ["a.example", "/api/%2e%2E/api/./admin", "admin"],
    ["x.sub.example:80", "/anything", "sub"],
    ["sub.example", "/anything", "o"],
    ["X.SUB.example", "/api", "sub"],
  ] as const) {
    assert.is((await ask(proxy, path, { headers: { host } })).body, want, `${host}${path}`);
  }
});

features("given a client that goes away, then the upstream's connection ends", async () => {
  const gone: string[] = [];
  let heard = (): void => {};
  const all = new Promise<void>((resolve) => {
    heard = () => {
      if (gone.length === 2) resolve();
    };
  });
  const port = await upstream((asked, response) => {
    asked.resume();
    response.on("close", () => {
      gone.push(asked.url!);
      heard();
    });
    if (asked.url === "/half") response.write("half");
  });
  const proxy = await front([port]);
  const client = request({ port: proxy.port, host: "127.0.0.1", path: "/half" }).end();
  await once(client, "response");
  client.on("error", () => {}).destroy();
  const waiting = request({ port: proxy.port, host: "127.0.0.1", path: "/wait" }).end();
  waiting.on("error", () => {});
  await sleep(200);
  waiting.destroy();
  await all;
  assert.equal(gone.sort(), ["/half", "/wait"]);
});

features("given an answer that is cut off, then the client does not take it for a whole one", async () => {
  const port = await rawUpstream((socket) => {
    socket.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    setTimeout(() => socket.resetAndDestroy(), 50);
  });
  const proxy = await front([port]);
  const asked = request({ port: proxy.port, host: "127.0.0.1" }).end();
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  const outcome = await text(response).then(
    () => "whole",
    () => "cut",
  );
  assert.is(outcome, "cut");
});

for (const [name, bytes] of [
  ["with two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"],
  [
    "with a length beside chunks",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  ],
  ["that is no HTTP", "220 smtp.example ready\r\n"],
  ["with a head of 20 KB", `HTTP/1.1 200 OK\r\nX-A: ${"a".repeat(20_000)}\r\n\r\n`],
  [
    "that switches protocols unasked",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
  ],
  ["that ends before it begins", ""],
] as const) {
  features(`given an answer ${name}, then 502 with the request's id`, async () => {
    const port = await rawUpstream((socket) => socket.end(bytes));
    const proxy = await front([port]);
    const { status, body, headers } = await ask(proxy, "/", { headers: { "x-request-id": "the-id" } });
    assert.is(status, 502);
    assert.match(body, "the-id");
    assert.is(headers["x-request-id"], "the-id");
    assert.is((await proxy.lines(1))[0]!.requestId, "the-id");
  });
}

features("given bytes behind an answer, then they are nobody's next answer", async () => {
  const port = await rawUpstream((socket, nth) => {
    socket.write(
      `HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${nth}HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad`,
    );
  });
  const proxy = await front([port], { more: ", reuse: 5s" });
  for (let turn = 0; turn < 4; turn++) {
    const { status, body } = await ask(proxy, "/");
    assert.ok(status === 502 || /^\d$/.test(body), `${status} ${body}`);
    await sleep(20);
  }
});

features("given a server that refuses, then the other one is asked, and 502 when both do", async () => {
  const port = await upstream((_, response) => void response.end("alive"));
  const dead = await rawUpstream(() => {});
  ends.pop()!();
  const proxy = await front([dead, port]);
  for (let turn = 0; turn < 4; turn++) assert.is((await ask(proxy, "/")).body, "alive");
  assert.is((await ask(proxy, "/", { method: "POST", body: "x" })).body, "alive");
  const other = await front([dead]);
  assert.is((await ask(other, "/")).status, 502);
});

features("given an upstream that resets, then only retries repeat, and never a POST", async () => {
  const counts = { bad: 0, good: 0 };
  const bad = await rawUpstream((socket) => {
    counts.bad += 1;
    socket.resetAndDestroy();
  });
  const good = await upstream((asked, response) => {
    counts.good += 1;
    asked.resume();
    response.end("good");
  });
  const once = await front([bad]);
  assert.is((await ask(once, "/")).status, 502);
  assert.is(counts.bad, 1);
  const proxy = await front([bad, good], { listener: ", routes: [{ upstream: o, retries: 1 }]" });
  for (let turn = 0; turn < 4; turn++) assert.is((await ask(proxy, "/")).status, 200);
  const statuses: number[] = [];
  for (let turn = 0; turn < 4; turn++)
    statuses.push((await ask(proxy, "/", { method: "POST", body: "x" })).status);
  assert.equal(statuses.sort(), [200, 200, 502, 502]);
});

features("given kept connections, then GETs share them and POSTs do not", async () => {
  const connections = new Set<Socket>();
  const port = await upstream(
    (asked, response) => {
      asked.resume();
      response.end();
    },
    (server) => server.on("connection", (socket: Socket) => connections.add(socket)),
  );
  const proxy = await front([port], { more: ", reuse: 5s" });
  for (let turn = 0; turn < 5; turn++) await ask(proxy, "/");
  assert.is(connections.size, 1);
  for (let turn = 0; turn < 3; turn++) await ask(proxy, "/", { method: "POST", body: "x" });
  assert.is(connections.size, 4);
  const lines = await proxy.lines(8);
  assert.equal(
    lines.map(({ connect }) => connect),
    ["direct", "reused", "reused", "reused", "reused", "direct", "direct", "direct"],
  );
});

features("given a kept connection that ends as it is used, then a GET goes over a fresh one", async () => {
  let requests = 0;
  const port = await rawUpstream((socket) => {
    requests += 1;
    // The second request on a connection meets a server that has just given up.
    const isSecond = socket.bytesRead > 500;
    if (isSecond) socket.resetAndDestroy();
    else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  });
  const proxy = await front([port], { more: ", reuse: 5s" });
  for (let turn = 0; turn < 4; turn++) {
    assert.is((await ask(proxy, "/", { headers: { "x-padding": "a".repeat(200) } })).body, "ok");
    await sleep(10);
  }
  assert.ok(requests > 4, "nothing was repeated");
});

features("given a server that says nothing, then 504 after the route's timeout", async () => {
  const port = await rawUpstream(() => {});
  const proxy = await front([port], { listener: ", routes: [{ upstream: o, timeout: 300ms }]" });
  const startedMs = performance.now();
  const { status } = await ask(proxy, "/");
  assert.is(status, 504);
  assert.ok(performance.now() - startedMs >= 295);
});

features("given a client that stops in its head, a body or between requests, then it is closed", async () => {
  const port = await upstream((asked, response) => {
    asked.resume();
    response.end();
  });
  const proxy = await front([port], { listener: ", idleTimeout: 300ms" });
  for (const bytes of [
    "",
    "GET / HTTP/1.1\r\nHost:",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
  ]) {
    const socket = connect(proxy.port, "127.0.0.1").resume();
    socket.on("error", () => {});
    if (bytes !== "") socket.write(bytes);
    await once(socket, "close");
  }
});

features("given maxConnections, then another client waits in the backlog until one ends", async () => {
  const port = await upstream((_, response) => void response.end("ok"));
  const proxy = await front([port], { listener: ", maxConnections: 2" });
  const open = async (): Promise<Socket> => {
    const socket = connect(proxy.port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    return socket;
  };
  const ask1 = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
  const first = [await open(), await open()];
  for (const socket of first) {
    socket.write(ask1);
    await once(socket, "data");
  }
  const waiting = await Promise.all([open(), open(), open()]);
  let heard = 0;
  for (const socket of waiting) {
    socket.on("data", () => {
      heard += 1;
    });
    socket.write(ask1);
  }
  await sleep(300);
  assert.is(heard, 0);
  for (const [index, socket] of [...first, ...waiting].entries()) {
    if (index < 3) socket.destroy();
    await sleep(50);
  }
  for (let left = 50; heard < 2 && left > 0; left--) await sleep(50);
  assert.is(heard >= 2, true, `${heard} heard`);
  for (const socket of waiting) socket.destroy();
});

features(
  "given SIGTERM, then the request under way is answered, and its connection is the last",
  async () => {
    let release = (): void => {};
    const port = await upstream((_, response) => {
      release = () => response.end("late");
    });
    const own = await HttpProxy.start(`
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o }]
upstreams: { o: { servers: [${servers(port)}] } }`);
    const proxy = { port: own.port("web") };
    const idle = connect(proxy.port, "127.0.0.1").resume();
    await once(idle, "connect");
    const asked = request({ port: proxy.port, host: "127.0.0.1", agent: false }).end();
    const answered = once(asked, "response") as Promise<[IncomingMessage]>;
    for (let left = 100; (release as unknown) === undefined && left > 0; left--) await sleep(10);
    await sleep(200);
    own.signal("SIGTERM");
    await once(idle, "close");
    release();
    const [response] = await answered;
    assert.is(response.headers.connection, "close");
    assert.is(await text(response), "late");
    assert.is((await own.ended).code, 0);
  },
);

features.run();
