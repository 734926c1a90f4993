// Goal: the load generator sends what is due when it is due, and believes nothing it has not compared.
// Method: arrivals as numbers; loads against servers in this process, one of them wrong in a chosen way.
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { poissonArrivals } from "../../../bench/load/arrivals.ts";
import { bodyOf } from "../../../bench/load/body.ts";
import { exchange, type Outcome, requestFor } from "../../../bench/load/exchange.ts";
import { runLoad } from "../../../bench/load/generator.ts";
import { originServer } from "../../../bench/load/origin-server.ts";
import { pace } from "../../../bench/load/pacer.ts";
import { median } from "../../../bench/load/percentiles.ts";

const arrivals = suite("poisson arrivals");
arrivals("given a rate, then as many as it says, with exponential gaps", () => {
  const times = poissonArrivals(100, 100_000, 7);
  const gaps = times.map((time, index) => time - (times[index - 1] ?? 0));
  assert.ok(Math.abs(times.length - 10_000) < 300, `${times.length}`);
  assert.ok(gaps.every((gap) => gap >= 0));
  // A gap exceeds its mean with probability 1/e.
  const long = gaps.filter((gap) => gap > 10).length / gaps.length;
  assert.ok(Math.abs(long - Math.exp(-1)) < 0.02, `${long}`);
});
arrivals("given a seed, then the same times, and others for another", () => {
  assert.equal(poissonArrivals(20, 1_000, 1), poissonArrivals(20, 1_000, 1));
  assert.not.equal(poissonArrivals(20, 1_000, 1), poissonArrivals(20, 1_000, 2));
});
arrivals("given no rate or duration, then it throws", () => {
  for (const [rate, duration] of [
    [0, 1],
    [1, 0],
    [Number.NaN, 1],
  ] as const) {
    assert.throws(() => poissonArrivals(rate, duration, 1), RangeError);
  }
});

const pacing = suite("pacer");
pacing("given times, then each is called once, in order, not early and usually on time", async () => {
  const begin = performance.now() + 20;
  const times = Array.from({ length: 40 }, (_, index) => begin + index * 7.3);
  const late: number[] = [];
  await pace(times, (index) => {
    assert.is(index, late.length);
    late.push(performance.now() - times[index]!);
  });
  assert.is(late.length, times.length);
  assert.ok(Math.min(...late) >= 0);
  assert.ok(median(late) < 3, `${median(late)}`);
});

interface Context {
  server: Server;
  /** What the server does with a connection once its request is there. */
  answer: (socket: Socket) => void;
}

const exchanges = suite<Context>("exchange");
exchanges.before(async (context) => {
  context.server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => context.answer(socket));
  });
  context.server.listen(0, "127.0.0.1");
  await once(context.server, "listening");
});
exchanges.after(({ server }) => void server.close());

function ask(server: Server, size: number, timeoutMs = 2_000): Promise<Outcome> {
  const target = { host: "127.0.0.1", port: (server.address() as AddressInfo).port };
  return new Promise((resolve) => exchange(target, requestFor(target, bodyOf(size), timeoutMs), resolve));
}

const head = (length: number): string => `HTTP/1.1 200 OK\r\ncontent-length: ${length}\r\n\r\n`;
const flipped = (size: number): Buffer => {
  const body = bodyOf(size);
  body[size - 1]! ^= 1;
  return body;
};

for (const [given, answer, want] of [
  [
    "a whole answer",
    (socket: Socket) => socket.end(Buffer.concat([Buffer.from(head(9)), bodyOf(9)])),
    undefined,
  ],
  [
    "one wrong bit",
    (socket: Socket) => socket.end(Buffer.concat([Buffer.from(head(9)), flipped(9)])),
    "wrong bytes",
  ],
  [
    "a byte too many",
    (socket: Socket) => socket.end(Buffer.concat([Buffer.from(head(9)), bodyOf(10)])),
    "wrong bytes",
  ],
  [
    "a byte too few",
    (socket: Socket) => socket.end(Buffer.concat([Buffer.from(head(9)), bodyOf(8)])),
    "connection closed before the answer was whole",
  ],
  ["another length", (socket: Socket) => socket.end(head(8)), "content-length 8"],
  ["an error status", (socket: Socket) => socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "status 502"],
  ["no HTTP", (socket: Socket) => socket.end("x".repeat(20_000)), "no HTTP answer"],
  ["a reset", (socket: Socket) => socket.resetAndDestroy(), "ECONNRESET"],
  ["silence", () => undefined, "timeout"],
] as const) {
  exchanges(`given ${given}, then ${want ?? "no error"}`, async (context) => {
    context.answer = answer;
    const { error, sentAt, firstByteAt, lastByteAt } = await ask(context.server, 9, 300);
    assert.is(error, want);
    if (want === undefined) assert.ok(sentAt < firstByteAt && firstByteAt <= lastByteAt);
  });
}

exchanges("given an answer in pieces, then the first and the last byte are told apart", async (context) => {
  context.answer = (socket) => {
    const all = Buffer.concat([Buffer.from(head(5_000)), bodyOf(5_000)]);
    socket.write(all.subarray(0, 10));
    setTimeout(() => socket.write(all.subarray(10, 3_000)), 20);
    setTimeout(() => socket.end(all.subarray(3_000)), 40);
  };
  const { error, firstByteAt, lastByteAt } = await ask(context.server, 5_000);
  assert.is(error, undefined);
  assert.ok(lastByteAt - firstByteAt > 25, `${lastByteAt - firstByteAt}`);
});

const loads = suite("load");
loads(
  "given two targets, then they are asked in turn and every request is counted at the origin",
  async () => {
    const { server, counts } = originServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const targets = ["a", "b"].map((name) => ({ name, host: "127.0.0.1", port }));
    const load = { targets, rate: 200, durationMs: 500, seed: 5, size: 1_000, timeoutMs: 2_000 };
    const seen: string[] = [];
    const { samples } = await runLoad(load, (name) => seen.push(name));
    const [a = [], b = []] = [samples.a, samples.b];
    const planned = poissonArrivals(200, 500, 5).length;
    assert.is(a.length + b.length, planned);
    assert.ok(a.length - b.length === planned % 2);
    assert.is(seen.length, planned);
    assert.equal(counts(), { connections: planned, requests: planned, bytes: planned * 1_000 });
    for (const sample of [...a, ...b]) {
      assert.is(sample.error, null);
      assert.ok(
        sample.lateMs >= 0 &&
          sample.firstByteMs! > sample.lateMs &&
          sample.lastByteMs! >= sample.firstByteMs!,
      );
    }
    server.close();
    await once(server, "close");
  },
);
loads("given a port where nobody listens, then every sample is an error", async () => {
  const target = { name: "a", host: "127.0.0.1", port: 1 };
  const load = { targets: [target], rate: 100, durationMs: 100, seed: 1, size: 10, timeoutMs: 500 };
  const { samples } = await runLoad(load);
  assert.ok(samples.a!.length > 0);
  assert.ok(samples.a!.every(({ error, firstByteMs }) => error === "ECONNREFUSED" && firstByteMs === null));
});

arrivals.run();
pacing.run();
exchanges.run();
loads.run();
