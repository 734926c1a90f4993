// alone
// drivers: io_uring, epoll
// Goal: a server that speaks first is heard one round trip and takeAfter after the client came, although no byte
// of the client completes the handshake; a lost raw ACK costs its first repetition, not the server's timer.
// Method: a greeting server 40 ms away, a client that never sends a byte; the lab drops the pure ACK where asked.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Rule } from "../../bench/lab/lab.ts";
import { median, Peer, type PeerServer } from "./peer.ts";
import { type ProxyProcess, World } from "./world.ts";

const RTT_MS = 40;
const TAKE_AFTER_MS = 10;
/** limits.ts ACK_REPEATS. */
const REPEAT_MS = 200;
/** Two processes on busy processors, and the grain of their timers. */
const ROOM_MS = 8;
const GREETING = "220 ready\r\n";

interface Context {
  world: World;
  proxy: ProxyProcess;
  client: Peer;
  talker: PeerServer;
  port: number;
}

/** How long after its connect() a client that says nothing hears the greeting. */
async function greetedAfterMs({ client, proxy }: Context): Promise<number> {
  const connection = await client.connect(proxy.port("greeter"));
  const { atMs } = await connection.saw("data");
  await connection.saw("end");
  assert.is((await connection.report()).text, GREETING);
  assert.not(connection.has("error"));
  const afterMs = atMs - connection.startedMs;
  await connection.end();
  await connection.saw("close");
  return afterMs;
}

/** The same several times; measured once more when the machine was busy. */
async function medianAfterMs(context: Context, count: number, limitMs: number): Promise<number> {
  const samples: number[] = [];
  for (let turn = 0; turn < 2; turn++) {
    samples.length = 0;
    for (let index = 0; index < count; index++) samples.push(await greetedAfterMs(context));
    if (median(samples) <= limitMs) break;
  }
  return median(samples);
}

const serverFirst = suite<Context>("server first");
serverFirst.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  context.client = await Peer.start(context.world, "near");
  const origin = await Peer.start(context.world, "far");
  const greeter = await origin.listen({ behaviour: "greet", text: GREETING });
  context.talker = await origin.listen({ behaviour: "report" });
  context.port = greeter.port;
  context.proxy = await context.world.proxy(`
listeners:
  - { name: greeter, bind: "127.0.0.1:0", upstream: greeter, takeAfter: ${TAKE_AFTER_MS}ms }
  - { name: talker, bind: "127.0.0.1:0", upstream: talker }
upstreams:
  talker: { servers: [{ address: "10.77.0.2:${context.talker.port}" }] }
  greeter: { servers: [{ address: "10.77.0.2:${greeter.port}" }], pool: { min: 4 } }
`);
  await context.proxy.ready();
});
serverFirst.after(async ({ world }) => {
  await world.close();
});

serverFirst(
  "given a client that never sends, then the greeting comes after 1 RTT + takeAfter",
  async (context) => {
    const limitMs = RTT_MS + TAKE_AFTER_MS + ROOM_MS;
    const medianMs = await medianAfterMs(context, 15, limitMs);
    console.log(`  greeting after ${medianMs.toFixed(1)} ms (1 RTT + takeAfter: ${RTT_MS + TAKE_AFTER_MS})`);
    assert.ok(medianMs >= RTT_MS + TAKE_AFTER_MS - 1, `${medianMs} ms: too early to be measured right`);
    assert.ok(medianMs <= limitMs, `${medianMs} ms`);
    const pool = (await context.proxy.status()).pools.find(({ upstream }) => upstream === "greeter");
    assert.ok(pool!.hits >= 15, `${pool!.hits} hits`);
    assert.is(pool!.misses, 0);
  },
);

for (const lost of [1, 2]) {
  const waitMs = REPEAT_MS * lost;
  serverFirst(
    `given the raw ACK lost ${lost === 1 ? "once" : "twice"}, then the greeting comes at most ${waitMs} ms later`,
    async (context) => {
      const link = context.world.lab.link();
      const drop: Rule = {
        name: "ACK",
        action: "drop",
        from: "near",
        flags: "A",
        payload: "none",
        dport: context.port,
        limit: lost,
      };
      const limitMs = RTT_MS + TAKE_AFTER_MS + waitMs + ROOM_MS;
      const samples: number[] = [];
      for (let turn = 0; turn < 5; turn++) {
        await link.setFilter({ rules: [drop] });
        samples.push(await greetedAfterMs(context));
        assert.is((await link.counters()).rules.ACK?.acted, lost);
        await link.clearFilter();
      }
      console.log(`  greeting after ${median(samples).toFixed(1)} ms`);
      // Sooner than our repetition when the upstream's timer fires, whose SYN-ACK our socket answers.
      const soonestMs = RTT_MS + TAKE_AFTER_MS + waitMs - REPEAT_MS;
      assert.ok(median(samples) > soonestMs + 1, `${samples}`);
      assert.ok(median(samples) <= limitMs, `${samples}`);
    },
  );
}

serverFirst("given a client that answers the greeting, then both talk on as usual", async (context) => {
  const { client, proxy, talker } = context;
  const outside = await client.connect(proxy.port("talker"));
  const inside = await talker.next();
  await inside.write("220 ready");
  await outside.heard("220 ready");
  await outside.write("EHLO client");
  await inside.heard("EHLO client");
  await inside.write("250 proxy");
  await outside.heard("250 proxy");
  await outside.end();
  await inside.saw("end");
  await inside.end();
  await outside.saw("close");
  assert.not(outside.has("error"));
});

serverFirst("given a server that waits as well, then a client that speaks late is heard", async (context) => {
  const { client, proxy, talker } = context;
  const outside = await client.connect(proxy.port("talker"));
  const inside = await talker.next();
  await new Promise((resolve) => setTimeout(resolve, 2_000)); // beyond the repetitions of the raw ACK
  assert.not(outside.has("close"));
  await outside.write("late");
  await inside.heard("late");
  await inside.write("heard");
  await outside.heard("heard");
  await outside.reset();
  assert.is((await inside.saw("error")).code, "ECONNRESET");
});
serverFirst.run();
