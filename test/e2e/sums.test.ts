// deadline: 120s
// Goal: the metrics of 10,000 connections add up exactly with what clients and origins counted: sessions, how they reached
// their upstream, bytes each way, and failures by their reason.
// Method: several workers of both kinds, tcp and http, on one host; some of the connections go to an upstream that refuses,
// and to one whose only place is taken.
import { once } from "node:events";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Scrape } from "./prometheus.ts";
import type { Counted, Order, Ports } from "./sums-peers.ts";
import { World } from "./world.ts";

const COUNTS = { tcp: 7_000, http: 2_000, dead: 500, line: 500 } as const;
const WORKERS = 3;
const CONCURRENCY = 48;

const sums = suite("sums");
sums("given 10,000 connections, then the metrics are what both ends counted", async () => {
  await using world = await World.create({ hosts: ["box"] });
  const peers = world.program("box", new URL("./sums-peers.ts", import.meta.url));
  const [at] = (await once(peers, "message")) as [Ports];
  const server = (port: number, more = "") => `servers: [{ address: "127.0.0.1:${port}"${more} }]`;
  const proxy = await world.proxy(
    `
listeners:
${Object.keys(COUNTS)
  .map(
    (name) =>
      `  - { name: ${name}, bind: "127.0.0.1:0", upstream: ${name}${name === "http" ? ", mode: http" : ""} }`,
  )
  .join("\n")}
upstreams:
  tcp: { ${server(at.tcp)}, pool: { min: 8, max: 64, maxSynRate: 2000 } }
  http: { ${server(at.http)}, pool: { min: 8, max: 64, maxSynRate: 2000 } }
  dead: { ${server(at.dead)} }
  line: { ${server(at.tcp, ", maxConnections: 1")}, maxQueue: 0 }
workers: ${WORKERS}
httpWorkers: 2`,
    { host: "box", until: "listening" },
  );
  await proxy.ready();
  const ports = Object.fromEntries(
    Object.keys(COUNTS).map((name) => [name, proxy.port(name)]),
  ) as Order["ports"];
  peers.send({ concurrency: CONCURRENCY, ports, counts: COUNTS } satisfies Order);
  const [{ clients, origins, problems }] = (await once(peers, "message")) as [Counted];
  assert.equal(problems, []);

  const metrics = async () => new Scrape(await proxy.metrics());
  await proxy.until(
    "all have ended",
    async () => (await metrics()).sum(/^accelproxy_connections_active/) === 0,
  );
  const found = await metrics();
  const sum = (name: string, labels = ""): number =>
    found.sum(new RegExp(`^accelproxy_${name}(\\{.*${labels.replaceAll(" ", ".*")}.*\\})?$`));
  const sessions = (listener: string, path = "") =>
    sum("connections_total", `listener="${listener}" ${path}`);
  const good = (listener: string): number => sessions(listener) - sessions(listener, `path="failed"`);

  for (const name of Object.keys(COUNTS) as (keyof typeof COUNTS)[]) {
    const connections = clients[name].connections + (name === "line" ? clients.held.connections : 0);
    assert.is(connections, COUNTS[name], `${name}: connections of clients`);
    assert.is(sessions(name), COUNTS[name], `${name}: sessions`);
  }
  // tcp and line share an origin.
  assert.is(good("tcp"), COUNTS.tcp);
  assert.is(good("line"), 1);
  assert.is(good("http"), COUNTS.http);
  assert.is(good("tcp") + good("line"), origins.tcp.connections, "connections of the tcp origin");
  assert.is(good("http"), origins.http.connections, "connections of the http origin");

  const bytes = (listener: string, direction: string) =>
    sum("bytes_total", `listener="${listener}",direction="${direction}"`);
  const { held } = clients;
  assert.is(bytes("tcp", "upstream") + held.sent, origins.tcp.received, "tcp, bytes to the origin");
  assert.is(bytes("tcp", "downstream") + bytes("line", "downstream"), origins.tcp.sent, "tcp, bytes from it");
  assert.is(bytes("line", "downstream"), held.received);
  assert.is(bytes("tcp", "upstream"), clients.tcp.sent, "tcp, bytes from clients");
  assert.is(bytes("tcp", "downstream"), clients.tcp.received, "tcp, bytes to clients");
  assert.is(bytes("http", "upstream"), origins.http.received, "http, bytes to the origin");
  assert.is(bytes("http", "downstream"), origins.http.sent, "http, bytes from the origin");
  // What was read from a client counts, also when there was nobody to pass it on to.
  for (const [name, sent] of [
    ["dead", clients.dead.sent],
    ["line", clients.line.sent + held.sent],
  ] as const) {
    assert.ok(bytes(name, "upstream") <= sent, `${name}, bytes from clients`);
  }
  assert.is(bytes("dead", "downstream"), 0);

  assert.is(
    sessions("dead", `path="failed"`),
    clients.dead.resets,
    "nobody listens: resets that clients saw",
  );
  assert.is(sum("server_connect_failures_total", `upstream="dead"`), COUNTS.dead);
  assert.is(sessions("line", `path="failed"`), clients.line.resets, "no place: resets that clients saw");
  assert.is(sum("upstream_refused_total", `upstream="line"`), COUNTS.line - 1);
  assert.is(sum("upstream_refused_total"), COUNTS.line - 1);

  const byPath = (path: string): number => sum("connections_total", `path="${path}"`);
  const reached = COUNTS.tcp + COUNTS.http + 1;
  assert.is(byPath("accelerated") + byPath("direct") + byPath("replayed"), reached);
  const firstBytes = ["accelerated", "direct", "replayed", "failed"].map((path) =>
    sum("first_byte_seconds_count", `path="${path}"`),
  );
  assert.equal(firstBytes, [byPath("accelerated"), byPath("direct"), byPath("replayed"), 0]);
  assert.ok(byPath("accelerated") > reached / 4, `${byPath("accelerated")} accelerated`);
  assert.is(sum("half_open_events_total", `event="leased"`), byPath("accelerated") + byPath("replayed"));
  assert.is(sum("materialize_seconds_count"), byPath("accelerated") + byPath("replayed"));
  assert.is(sum("round_trips_saved_total"), byPath("accelerated"));
  assert.is(sum("server_connections_active"), 0);
  const { listeners, pools } = await proxy.status();
  for (const { name, total } of listeners) assert.is(total, COUNTS[name as keyof typeof COUNTS], name);
  const hits = pools.reduce((all, pool) => all + pool.hits, 0);
  assert.is(hits, byPath("accelerated") + byPath("replayed"));
  console.log(
    `${reached} reached an origin: ${byPath("accelerated")} accelerated, ${byPath("direct")} direct`,
  );
  assert.is(await proxy.stop(), 0);
});
sums.run();
