// drivers: io_uring, epoll
// Goal: the PROXY protocol as HAProxy and nginx speak it, both ways, at no round trip; a wrong header closes.
// Method: HAProxy and nginx on the far host say what the header told them; on the near host they send headers to the
// proxy; clients of our own send wrong ones, and look at the bytes an upstream gets.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Peer, type PeerConnection, type PeerServer } from "./peer.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 40;
const [HAPROXY, NGINX] = [9001, 9002];
const FRONTS = { "send-proxy": 9101, "send-proxy-v2 proxy-v2-options crc32c,unique-id": 9102, nginx: 9103 };

interface Context {
  world: World;
  proxy: ProxyProcess;
  client: Peer;
  /** Takes what comes. */
  sink: PeerServer;
}

/** On the far host: both answer with what the header says. */
async function startServers(world: World): Promise<void> {
  const file = join(world.folder, "servers.cfg");
  writeFileSync(
    file,
    `defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend servers
  bind :${HAPROXY} accept-proxy
  bind :::${HAPROXY} v6only accept-proxy
  http-request return status 200 content-type text/plain lf-string "%ci|%cp|%fi|%fp|%[fc_pp_unique_id]"
`,
  );
  world.far.spawn("haproxy", ["-db", "-q", "-f", file], { stdio: "ignore" });
  const http = `http { access_log off; server { listen ${NGINX} proxy_protocol; listen [::]:${NGINX} proxy_protocol;
    location / { return 200 "$proxy_protocol_addr|$proxy_protocol_port|$proxy_protocol_server_addr|$proxy_protocol_server_port|"; } } }`;
  startNginx(world, "far", http);
}

/** On the near host: each sends its header to the proxy's listener "in". */
function startFronts(world: World, port: number): void {
  const file = join(world.folder, "fronts.cfg");
  const fronts = Object.entries(FRONTS)
    .filter(([how]) => how !== "nginx")
    .map(
      ([how, front]) => `listen front${front}
  bind 127.0.0.1:${front}
  unique-id-format id-%cp
  server proxy 127.0.0.1:${port} ${how}
`,
    );
  writeFileSync(
    file,
    `defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\n${fronts.join("")}`,
  );
  world.near.spawn("haproxy", ["-db", "-q", "-f", file], { stdio: "ignore" });
  startNginx(
    world,
    "near",
    `stream { server { listen 127.0.0.1:${FRONTS.nginx}; proxy_pass 127.0.0.1:${port}; proxy_protocol on; } }`,
  );
}

function startNginx(world: World, host: "near" | "far", block: string): void {
  const folder = join(world.folder, `nginx-${host}`);
  mkdirSync(folder);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${folder}/${kind};`)
    .join(" ");
  const file = join(folder, "nginx.conf");
  writeFileSync(
    file,
    `load_module modules/ngx_stream_module.so; daemon off; user root; pid ${folder}/pid; error_log stderr error;
     worker_processes 1; events {} ${block.replace("http {", `http { ${temporary}`)}`,
  );
  world.lab.host(host).spawn("nginx", ["-p", "/usr/share/nginx", "-e", "stderr", "-c", file]);
}

/** A request on a connection of its own: what came back, from where it was sent, and after how long. */
async function ask(world: World, port: number, host = "127.0.0.1") {
  const form = "\n%{local_port} %{time_connect} %{time_starttransfer}";
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${port}/`;
  const { stdout, code } = await world.near.run("curl", ["-sS", "-m", "5", "-w", form, url]);
  const [body = "", numbers = ""] = stdout.split("\n");
  const [sourcePort = 0, connectS = 0, firstByteS = 0] = numbers.split(" ").map(Number);
  return { told: code === 0 ? body.split("|") : [], sourcePort, firstByteMs: (firstByteS - connectS) * 1e3 };
}

/** The same once whoever listens there does. */
async function askUp(world: World, port: number, host?: string): ReturnType<typeof ask> {
  for (let turn = 0; turn < 50; turn++) {
    const answer = await ask(world, port, host);
    if (answer.told.length > 1) return answer;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`no answer on port ${port}`);
}

const config = (far: string, far6: string, sink: number): string => {
  const upstream = (name: string, address: string, version: string) =>
    `  ${name}: { servers: [{ address: "${address}" }], proxyProtocol: ${version} }\n`;
  const listener = (name: string, host = "127.0.0.1") =>
    `  - { name: ${name}, bind: "${host}:0", upstream: ${name} }\n`;
  const accepting = (name: string, upstreamName: string, accept: string, from: string) =>
    `  - { name: ${name}, bind: "127.0.0.1:0", upstream: ${upstreamName}, proxyProtocol: { accept: ${accept}, from: [${from}] } }\n`;
  return `
listeners:
${listener("haproxy-v1")}${listener("haproxy-v2")}${listener("nginx-v1")}${listener("nginx-v2")}\
${listener("haproxy6-v1", "[::1]")}${listener("haproxy6-v2", "[::1]")}${listener("nginx6-v2", "[::1]")}\
${listener("sink-v1")}${accepting("in", "haproxy-v2", "any", "127.0.0.0/8")}\
${accepting("in-v1", "sink", "v1", "127.0.0.1")}${accepting("elsewhere", "sink", "any", "10.0.0.0/8")}
upstreams:
${upstream("haproxy-v1", `${far}:${HAPROXY}`, "v1")}${upstream("haproxy-v2", `${far}:${HAPROXY}`, "v2")}\
${upstream("nginx-v1", `${far}:${NGINX}`, "v1")}${upstream("nginx-v2", `${far}:${NGINX}`, "v2")}\
${upstream("haproxy6-v1", `[${far6}]:${HAPROXY}`, "v1")}${upstream("haproxy6-v2", `[${far6}]:${HAPROXY}`, "v2")}\
${upstream("nginx6-v2", `[${far6}]:${NGINX}`, "v2")}\
${upstream("sink", `${far}:${sink}`, "none")}${upstream("sink-v1", `${far}:${sink}`, "v1")}`;
};

const peers = suite<Context>("PROXY protocol");

peers.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  const { world } = context;
  await startServers(world);
  context.client = await Peer.start(world, "near");
  const far = await Peer.start(world, "far");
  context.sink = await far.listen({ behaviour: "report" });
  context.proxy = await world.proxy(config(world.far.address(), world.far.address(6), context.sink.port));
  startFronts(world, context.proxy.port("in"));
  for (const listener of ["haproxy-v1", "nginx-v1"]) await askUp(world, context.proxy.port(listener));
  await context.proxy.ready();
  for (const front of Object.values(FRONTS)) await askUp(world, front);
});

peers.after(async ({ world }) => {
  await world.close();
});

for (const [listener, host] of [
  ["haproxy-v1", "127.0.0.1"],
  ["haproxy-v2", "127.0.0.1"],
  ["nginx-v1", "127.0.0.1"],
  ["nginx-v2", "127.0.0.1"],
  ["haproxy6-v1", "::1"],
  ["haproxy6-v2", "::1"],
  ["nginx6-v2", "::1"],
] as const) {
  peers(`given ${listener}, then it knows the client, in one round trip`, async ({ world, proxy }) => {
    await askUp(world, proxy.port(listener), host); // a pool that backed off before its server was up is back
    const { hits } = await poolOf(proxy, listener);
    const { told, sourcePort } = await ask(world, proxy.port(listener), host);
    assert.equal(told.slice(0, 4), [host, String(sourcePort), host, String(proxy.port(listener))]);
    let bestMs = Number.POSITIVE_INFINITY;
    for (let turn = 0; turn < 5; turn++) {
      bestMs = Math.min(bestMs, (await ask(world, proxy.port(listener), host)).firstByteMs);
    }
    assert.ok(bestMs < 1.5 * RTT_MS, `${bestMs} ms`);
    assert.ok((await poolOf(proxy, listener)).hits > hits);
  });
}

async function poolOf(proxy: ProxyProcess, upstream: string) {
  const pool = (await proxy.status()).pools.find(({ upstream: name }) => name === upstream);
  if (!pool) throw new Error(`no pool of ${upstream}`);
  return pool;
}

for (const [how, port] of Object.entries(FRONTS)) {
  peers(`given a header by ${how}, then the client in it goes on to the upstream`, async ({ world }) => {
    const { told, sourcePort } = await ask(world, port);
    const [address, clientPort, , serverPort, id] = told;
    assert.equal([address, clientPort], ["127.0.0.1", String(sourcePort)]);
    assert.is(serverPort, String(port));
    assert.is(id, how.includes("unique-id") ? `id-${sourcePort}` : "");
  });
}

peers(
  "given a client that says nothing, then the server hears its header and may speak first",
  async ({ client, proxy, sink }) => {
    const connection = await client.connect(proxy.port("sink-v1"));
    const server = await sink.next();
    assert.match(await server.heard("\r\n"), /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$/);
    await server.write("220 ready");
    assert.is(await connection.heard("220"), "220 ready");
    await connection.write("and so on");
    assert.match(await server.heard("and so on"), /\r\nand so on$/);
    await connection.end();
    await server.saw("end");
    await server.end();
    await connection.saw("close");
  },
);

peers("given a header in pieces, then what follows it arrives alone", async ({ client, proxy, sink }) => {
  const connection = await client.connect(proxy.port("in-v1"));
  for (const piece of ["PROXY TCP4 192.0.2.7 ", "10.0.0.1 40000 443\r", "\nhel", "lo"]) {
    await connection.write(piece);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  const server = await sink.next();
  assert.is(await server.heard("hello"), "hello");
  await connection.reset();
});

peers(
  "given a header and nothing behind it, then a server that speaks first is heard",
  async ({ client, proxy, sink }) => {
    const connection = await client.connect(proxy.port("in-v1"), "127.0.0.1", { text: "PROXY UNKNOWN\r\n" });
    const server = await sink.next();
    await server.write("220 ready");
    assert.is(await connection.heard("220"), "220 ready");
    await connection.reset();
  },
);

peers("given wrong headers, then each client is closed with one line", async ({ client, proxy }) => {
  const line = "closing a client whose PROXY header is wrong";
  const before = proxy.said(line).length;
  const texts = ["GET / HTTP/1.1\r\n\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", "PROXY UNKNOWN\n"];
  const connections: PeerConnection[] = [];
  for (const text of texts) {
    connections.push(await client.connect(proxy.port("in-v1"), "127.0.0.1", { text }));
  }
  connections.push(await client.connect(proxy.port("in-v1"), "127.0.0.1", { text: "PROXY T", end: true }));
  for (const connection of connections) await connection.saw("close");
  await proxy.until("the lines", () => proxy.said(line).length >= before + connections.length);
  const lines = proxy.said(line).slice(before);
  assert.is(lines.length, connections.length);
  assert.ok(lines.every(({ listener, client: address }) => listener === "in-v1" && address === "127.0.0.1"));
  assert.equal(new Set(lines.map(({ reason }) => reason)).size, 4);
});

peers("given one who is not named, then its header is bytes like others", async ({ client, proxy, sink }) => {
  const text = "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nhello";
  const connection = await client.connect(proxy.port("elsewhere"), "127.0.0.1", { text });
  const server = await sink.next();
  assert.is(await server.heard("hello"), text);
  await connection.reset();
});

peers(
  "given an upstream that forgot its half-opens, then the header is sent again too",
  async ({ world, proxy }) => {
    const before = await poolOf(proxy, "haproxy-v1");
    assert.ok(before.halfOpen > 0);
    const forgotten = await world.far.run("sh", [
      "-c",
      `ss -K state syn-recv sport = :${HAPROXY} >/dev/null`,
    ]);
    assert.is(forgotten.code, 0, forgotten.stderr);
    const answers = await Promise.all(Array.from({ length: 4 }, () => ask(world, proxy.port("haproxy-v1"))));
    for (const { told, sourcePort } of answers)
      assert.equal(told.slice(0, 2), ["127.0.0.1", String(sourcePort)]);
    assert.ok((await poolOf(proxy, "haproxy-v1")).replays > before.replays);
  },
);
peers.run();
