// drivers: io_uring, epoll
// Goal: however one side ends, the other learns it as it was: a FIN as a FIN with the other direction going on, a
// reset as a reset; and every wait has its limit.
// Method: client, proxy and upstream on three hosts of a lab, so that both connections can be captured. The
// sockets at both ends are the test's.
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type CapturedPacket, readPcap } from "../../bench/lab/lab.ts";
import { FIN, RST } from "../../native/wire/tcp.ts";
import { Peer, type PeerConnection, type PeerServer } from "./peer.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 20;
const IDLE_MS = 400;
const CONNECT_LIMIT_MS = 600;
/** Nobody listens there. */
const DEAD_PORT = 9;
/** Nobody has it: packets to it vanish. */
const NOBODY = "10.77.0.77";

interface Context {
  world: World;
  proxy: ProxyProcess;
  client: Peer;
  origin: Peer;
  server: PeerServer;
  address: string;
}

const config = (port: number): string => `
listeners:
  - { name: web, bind: "0.0.0.0:0", upstream: origin }
  - { name: idle, bind: "0.0.0.0:0", upstream: origin, idleTimeout: ${IDLE_MS}ms }
  - { name: few, bind: "0.0.0.0:0", upstream: origin, maxConnections: 2 }
  - { name: dead, bind: "0.0.0.0:0", upstream: dead }
  - { name: silent, bind: "0.0.0.0:0", upstream: silent }
upstreams:
  origin: { servers: [{ address: "10.77.0.2:${port}" }], pool: { min: 4 } }
  dead: { servers: [{ address: "10.77.0.2:${DEAD_PORT}" }], connectTimeout: ${CONNECT_LIMIT_MS}ms }
  silent: { servers: [{ address: "${NOBODY}:80" }], connectTimeout: ${CONNECT_LIMIT_MS}ms }
drainTimeout: 20s
`;

/** A session: the client's end and the upstream's, after the client's first bytes arrived. */
async function open(context: Context, listener = "web"): Promise<[PeerConnection, PeerConnection]> {
  const { client, server, proxy, address } = context;
  const outside = await client.connect(proxy.port(listener), address, { text: "hello" });
  const inside = await server.next();
  await inside.heard("hello");
  return [outside, inside];
}

/** What the far side of a link received with a payload, a FIN or a RST, in order. */
function received(path: string, flag: number, port: number): CapturedPacket[] {
  return readPcap(path).filter(
    ({ tcp }) => tcp !== undefined && (tcp.flags & flag) !== 0 && (tcp.sport === port || tcp.dport === port),
  );
}

async function hits(proxy: ProxyProcess): Promise<number> {
  return (await proxy.status()).pools.reduce((sum, pool) => sum + pool.hits, 0);
}

const ends = suite<Context>("ends of sessions");
ends.before(async (context) => {
  context.world = await World.create({
    hosts: ["client", "near", "far"],
    links: [{ between: ["near", "far"], rttMs: RTT_MS }, { between: ["client", "near"] }],
  });
  context.client = await Peer.start(context.world, "client");
  context.origin = await Peer.start(context.world, "far");
  context.server = await context.origin.listen({ behaviour: "report" });
  context.proxy = await context.world.proxy(config(context.server.port));
  await context.proxy.ready();
  context.address = context.world.near.address(4, "client");
});
ends.after(async ({ world }) => {
  await world.close();
});

ends("given a client that ends first, then it still hears the upstream", async (context) => {
  const before = await hits(context.proxy);
  const [outside, inside] = await open(context);
  await outside.end();
  await inside.saw("end");
  await inside.write("late answer");
  await outside.heard("late answer");
  assert.not(outside.has("end"));
  await inside.end();
  await outside.saw("close");
  await inside.saw("close");
  assert.not(outside.has("error"));
  assert.not(inside.has("error"));
  assert.is(await hits(context.proxy), before + 1, "the session was not accelerated");
});

ends("given an upstream that ends first, then it still hears the client", async (context) => {
  const [outside, inside] = await open(context);
  await inside.end();
  await outside.saw("end");
  await outside.write("late word");
  await inside.heard("late word");
  assert.not(inside.has("end"));
  await outside.end();
  await inside.saw("close");
  await outside.saw("close");
  assert.not(outside.has("error"));
});

ends(
  "given a client that ends without a byte, then the upstream hears the end and may answer",
  async (context) => {
    const { client, server, proxy, address } = context;
    const outside = await client.connect(proxy.port("web"), address, { end: true });
    const inside = await server.next();
    await inside.saw("end");
    assert.is((await inside.report()).bytes, 0);
    await inside.write("for nothing");
    await outside.heard("for nothing");
    await inside.end();
    await outside.saw("close");
    assert.not(outside.has("error"));
  },
);

ends("given both ends at once, then both close without an error", async (context) => {
  const [outside, inside] = await open(context);
  await Promise.all([outside.end(), inside.end()]);
  await Promise.all([outside.saw("close"), inside.saw("close")]);
  assert.not(outside.has("error"));
  assert.not(inside.has("error"));
});

ends("given a client that resets, then the upstream gets a reset", async (context) => {
  const capture = join(context.world.folder, "reset-far.pcap");
  await context.world.lab.link("near", "far").record({ far: capture });
  const [outside, inside] = await open(context);
  await inside.write("answer");
  await outside.heard("answer");
  await outside.reset();
  assert.is((await inside.saw("error")).code, "ECONNRESET");
  assert.not(inside.has("end"));
  await context.world.lab.link("near", "far").stopRecording();
  assert.ok(
    received(capture, RST, context.server.port).some(({ tcp }) => tcp?.dport === context.server.port),
  );
});

ends(
  "given a client that resets while it waits for the first answer, then the upstream gets a reset",
  async (context) => {
    const [outside, inside] = await open(context);
    await outside.reset();
    assert.is((await inside.saw("error")).code, "ECONNRESET");
    assert.not(inside.has("end"));
  },
);

ends("given an upstream that resets, then the client gets a reset", async (context) => {
  const link = context.world.lab.link("client", "near");
  const capture = join(context.world.folder, "reset-client.pcap");
  await link.record({ client: capture });
  const [outside, inside] = await open(context);
  await inside.write("answer");
  await outside.heard("answer");
  await inside.reset();
  assert.is((await outside.saw("error")).code, "ECONNRESET");
  assert.not(outside.has("end"));
  await link.stopRecording();
  const port = context.proxy.port("web");
  assert.ok(received(capture, RST, port).some(({ tcp }) => tcp?.sport === port));
  assert.is(received(capture, FIN, port).length, 0);
});

ends(
  "given an upstream that resets without a word, then the client gets a reset and nothing is sent again",
  async (context) => {
    const before = context.server.accepted.length;
    const [outside, inside] = await open(context);
    await inside.reset();
    assert.is((await outside.saw("error")).code, "ECONNRESET");
    assert.not(outside.has("end"));
    assert.is(context.server.accepted.length, before + 1);
  },
);

ends("given a session without a byte for idleTimeout, then both sides get a FIN", async (context) => {
  const [outside, inside] = await open(context, "idle");
  await inside.write("answer");
  await outside.heard("answer");
  const [first, second] = await Promise.all([outside.saw("end"), inside.saw("end")]);
  const answeredMs = outside.events.find(({ event }) => event === "data")!.atMs;
  for (const { atMs } of [first, second]) {
    assert.ok(atMs - answeredMs >= IDLE_MS - 50, `${atMs - answeredMs} ms`);
    assert.ok(atMs - answeredMs <= IDLE_MS + 400, `${atMs - answeredMs} ms`);
  }
  assert.not(outside.has("error"));
  assert.not(inside.has("error"));
});

ends("given a slow trickle, then idleTimeout does not end the session", async (context) => {
  const [outside, inside] = await open(context, "idle");
  await inside.write("answer");
  for (let turn = 0; turn < 6; turn++) {
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS / 2));
    await (turn % 2 === 0 ? outside : inside).write(`turn ${turn}.`);
  }
  await outside.heard("turn 5");
  assert.not(outside.has("end"));
  await outside.reset();
});

for (const [listener, what] of [
  ["dead", "refuses"],
  ["silent", "does not answer"],
] as const) {
  ends(
    `given an upstream that ${what}, then the client gets a reset within connectTimeout`,
    async (context) => {
      const { client, proxy, address } = context;
      const outside = await client.connect(proxy.port(listener), address, { text: "hello" });
      const { code, atMs } = await outside.saw("error");
      assert.is(code, "ECONNRESET");
      assert.ok(atMs - outside.startedMs <= CONNECT_LIMIT_MS + 300, `${atMs - outside.startedMs} ms`);
    },
  );
}

ends("given maxConnections sessions, then further clients wait and are served in turn", async (context) => {
  const { client, server, proxy, address } = context;
  const first = await open(context, "few");
  const second = await open(context, "few");
  const before = server.accepted.length;
  const waiting: PeerConnection[] = [];
  for (let index = 0; index < 4; index++) {
    waiting.push(await client.connect(proxy.port("few"), address, { text: `waiting ${index}` }));
  }
  await Promise.all(waiting.map((connection) => connection.saw("connect")));
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.is(server.accepted.length, before, "a client above the limit was served");
  assert.ok(waiting.every((connection) => !connection.has("end") && !connection.has("error")));
  let inUse: [PeerConnection, PeerConnection][] = [first, second];
  for (let served = 0; served < 4; served++) {
    const [outside, inside] = inUse.shift()!;
    await outside.end();
    await inside.end();
    const next = await server.next();
    const [, index] = /waiting (\d)/.exec(await next.heard("waiting"))!;
    await next.write("served");
    await waiting[Number(index)]!.heard("served");
    inUse = [...inUse, [waiting[Number(index)]!, next]];
  }
  for (const [outside, inside] of inUse) {
    await outside.end();
    await inside.end();
  }
});

ends(
  "given SIGTERM, then a session finishes, nobody new is accepted, and the program exits 0",
  async (context) => {
    const { client, proxy, address } = context;
    const [outside, inside] = await open(context);
    const exit = proxy.stop("SIGTERM");
    await proxy.until("draining", () => proxy.said("draining").length > 0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const late = await client.connect(proxy.port("web"), address, { text: "late" });
    assert.is((await late.saw("error")).code, "ECONNREFUSED");
    await outside.write("still here");
    await inside.heard("still here");
    await inside.write("and here");
    await outside.heard("and here");
    await outside.end();
    await inside.end();
    assert.is(await exit, 0);
    assert.not(outside.has("error"));
  },
);

ends(
  "given a second SIGTERM, then what is left is reset at once, and the program exits 0",
  async (context) => {
    const { world, server } = context;
    context.proxy = await world.proxy(config(server.port));
    await context.proxy.ready();
    const [outside, inside] = await open(context);
    const exit = context.proxy.stop("SIGTERM");
    await context.proxy.until("draining", () => context.proxy.said("draining").length > 0);
    const startedMs = performance.now();
    context.proxy.child.kill("SIGTERM");
    assert.is(await exit, 0);
    assert.ok(performance.now() - startedMs < 1_500, `${performance.now() - startedMs} ms`);
    assert.is(context.proxy.said("stopping at once").length, 1);
    assert.is((await outside.saw("error")).code, "ECONNRESET");
    assert.is((await inside.saw("error")).code, "ECONNRESET");
  },
);
ends.run();
