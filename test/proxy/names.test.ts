import { createSocket, type Socket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Endpoint } from "../../native/address.ts";
import { type Clock, type NameResolver, NameWatcher } from "../../proxy/names.ts";

/**
 * Goal: the servers behind a name are known, followed, and never lost to a failing resolver.
 * Method: a resolver whose answers each test sets and a clock it advances by hand; then Node's own resolver against
 * a small DNS server on loopback.
 */

type Answers = Record<4 | 6, readonly (readonly [address: string, ttl: number])[] | string>;

/** Answers as set; a string is the code of the error. Counts the questions. */
class ScriptedResolver implements NameResolver {
  answers: Answers = { 4: "ENOTFOUND", 6: "ENOTFOUND" };
  questions = 0;

  async resolve4() {
    this.questions += 1;
    return this.#answer(4);
  }

  async resolve6() {
    return this.#answer(6);
  }

  #answer(family: 4 | 6) {
    const answer = this.answers[family];
    if (typeof answer === "string") throw Object.assign(new Error(answer), { code: answer });
    return answer.map(([address, ttl]) => ({ address, ttl }));
  }
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 60));

class World {
  readonly resolver = new ScriptedResolver();
  readonly folder = mkdtempSync(join(tmpdir(), "accelproxy-names-"));
  readonly hostsFile = join(this.folder, "hosts");
  readonly logged: string[] = [];
  readonly seen: string[][] = [];
  readonly delays: number[] = [];
  #due: (() => void) | undefined;
  readonly watcher: NameWatcher;

  constructor(hosts = "") {
    writeFileSync(this.hostsFile, hosts);
    const clock: Clock = (delayMs, run) => {
      this.delays.push(delayMs);
      this.#due = run;
      return () => {
        this.#due = undefined;
      };
    };
    const log = {
      info: (_fields: object, message: string) => void this.logged.push(`info ${message}`),
      warn: (_fields: object, message: string) => void this.logged.push(`warn ${message}`),
    };
    this.watcher = new NameWatcher({ log, hostsFile: this.hostsFile, resolver: this.resolver, clock });
  }

  watch(name: string, port = 80): () => void {
    return this.watcher.watch(name, port, (endpoints) => void this.seen.push(endpoints.map(text)));
  }

  get isWaiting(): boolean {
    return this.#due !== undefined;
  }

  /** Lets the time pass until the next question. */
  async again(): Promise<void> {
    const run = this.#due;
    this.#due = undefined;
    run?.();
    await settle();
  }

  end(): void {
    this.watcher.close();
    rmSync(this.folder, { recursive: true });
  }
}

const text = ({ address, port }: Endpoint) => `${address} ${port}`;

const names = suite("names");
const test = (name: string, hosts: string, body: (world: World) => Promise<void>): void => {
  names(name, async () => {
    const world = new World(hosts);
    try {
      await body(world);
    } finally {
      world.end();
    }
  });
};

for (const [given, want] of [
  ["10.0.0.7", "10.0.0.7 80"],
  ["2001:DB8:0::7", "2001:db8::7 80"],
] as const) {
  test(`given the address ${given}, then it passes through without a question`, "", async (world) => {
    world.watch(given);
    assert.equal(world.seen, [], "reported from within watch()");
    await settle();
    assert.equal(world.seen, [[want]]);
    assert.equal(await world.watcher.first(given), [want.split(" ")[0]]);
    assert.is(world.resolver.questions, 0);
  });
}

test("given A and AAAA, then all in order, once each, at the port", "", async (world) => {
  world.resolver.answers = {
    4: [
      ["10.0.0.9", 60],
      ["10.0.0.8", 30],
      ["10.0.0.9", 60],
    ],
    6: [["2001:db8:0::1", 90]],
  };
  world.watch("Origin.Example.");
  await settle();
  assert.equal(world.seen, [["10.0.0.8 80", "10.0.0.9 80", "2001:db8::1 80"]]);
  assert.equal(world.delays, [30_000]);
});

for (const [ttl, wantMs] of [
  [0, 1_000],
  [1, 1_000],
  [59, 59_000],
  [86_400, 3_600_000],
] as const) {
  test(`given a TTL of ${ttl} s, then asked again after ${wantMs} ms`, "", async (world) => {
    world.resolver.answers[4] = [["10.0.0.1", ttl]];
    world.watch("a");
    await settle();
    assert.equal(world.delays, [wantMs]);
  });
}

test(
  "given the same answer again, then nothing is reported; given another, then it is",
  "",
  async (world) => {
    world.resolver.answers[4] = [
      ["10.0.0.1", 1],
      ["10.0.0.2", 1],
    ];
    world.watch("a");
    await settle();
    world.resolver.answers[4] = [
      ["10.0.0.2", 5],
      ["10.0.0.1", 5],
    ];
    await world.again();
    assert.is(world.seen.length, 1);
    world.resolver.answers[4] = [["10.0.0.3", 5]];
    await world.again();
    assert.equal(world.seen.at(-1), ["10.0.0.3 80"]);
    assert.is(world.resolver.questions, 3);
  },
);

test(
  "given failures, then the last addresses stay, one warning a streak, growing waits",
  "",
  async (world) => {
    world.resolver.answers[4] = [["10.0.0.1", 60]];
    world.watch("a");
    await settle();
    for (const code of [
      "ESERVFAIL",
      "ENOTFOUND",
      "ETIMEOUT",
      "ENODATA",
      "ECONNREFUSED",
      "EREFUSED",
      "ENOTFOUND",
    ]) {
      world.resolver.answers = { 4: code, 6: "ENODATA" };
      await world.again();
    }
    assert.equal(world.delays, [60_000, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    assert.is(world.seen.length, 1);
    assert.equal(await world.watcher.first("a"), ["10.0.0.1"]);
    assert.equal(world.logged, ["warn name cannot be resolved, its last addresses stay"]);
    world.resolver.answers[4] = [["10.0.0.1", 60]];
    await world.again();
    world.resolver.answers[4] = "ESERVFAIL";
    await world.again();
    assert.is(world.seen.length, 1);
    assert.equal(world.logged.slice(1), [
      "info name is resolved again",
      "warn name cannot be resolved, its last addresses stay",
    ]);
    assert.is(world.delays.at(-1), 1_000);
  },
);

test(
  "given one family without an answer, then its addresses stay; given none any more, they go",
  "",
  async (world) => {
    world.resolver.answers = { 4: [["10.0.0.1", 9]], 6: [["::1:2", 9]] };
    world.watch("a");
    await settle();
    world.resolver.answers = { 4: [["10.0.0.2", 9]], 6: "ESERVFAIL" };
    await world.again();
    world.resolver.answers = { 4: [["10.0.0.2", 9]], 6: "ENODATA" };
    await world.again();
    assert.equal(world.seen, [["10.0.0.1 80", "::1:2 80"], ["10.0.0.2 80", "::1:2 80"], ["10.0.0.2 80"]]);
  },
);

test("given 0.0.0.0, then that is a failure", "", async (world) => {
  world.resolver.answers = { 4: [["0.0.0.0", 9]], 6: [["::", 9]] };
  world.watch("a");
  await settle();
  assert.equal(world.seen, []);
  assert.is(world.logged.length, 1);
});

const hosts = `# comment\n127.0.0.9 other # origin\n10.1.1.1\tx ORIGIN y\r\n  2001:db8::9  origin.\nfe80::1%lo0 origin\nbad origin\n`;
test(
  "given a name in the hosts file, then its lines and no question, read again later",
  hosts,
  async (world) => {
    world.watch("origin", 8080);
    await settle();
    assert.equal(world.seen, [["10.1.1.1 8080", "2001:db8::9 8080"]]);
    assert.is(world.resolver.questions, 0);
    assert.equal(world.delays, [10_000]);
    writeFileSync(world.hostsFile, "10.1.1.2 origin\n");
    await world.again();
    assert.equal(world.seen.at(-1), ["10.1.1.2 8080"]);
    world.resolver.answers[4] = [["10.1.1.3", 9]];
    writeFileSync(world.hostsFile, "10.1.1.2 originality\n");
    await world.again();
    assert.equal(world.seen.at(-1), ["10.1.1.3 8080"]);
  },
);

test("given two watches of a name, then one question, both told, each ends by itself", "", async (world) => {
  world.resolver.answers[4] = [["10.0.0.1", 9]];
  const endFirst = world.watch("a", 1);
  await settle();
  const endSecond = world.watch("A", 2);
  await settle();
  assert.equal(world.seen, [["10.0.0.1 1"], ["10.0.0.1 2"]]);
  assert.is(world.resolver.questions, 1);
  endFirst();
  world.resolver.answers[4] = [["10.0.0.2", 9]];
  await world.again();
  assert.equal(world.seen.slice(2), [["10.0.0.2 2"]]);
  endSecond();
  assert.not(world.isWaiting);
  endSecond();
});

test("given a watch that ended during its question, then silence and no timer", "", async (world) => {
  world.resolver.answers[4] = [["10.0.0.1", 9]];
  world.watch("a")();
  await settle();
  assert.equal(world.seen, []);
  assert.equal(world.delays, []);
});

test(
  "given a name nobody watches, then first() looks once; given a failing one, then it is empty",
  "",
  async (world) => {
    world.resolver.answers[4] = [["10.0.0.1", 9]];
    assert.equal(await world.watcher.first("a"), ["10.0.0.1"]);
    world.resolver.answers[4] = "ENOTFOUND";
    assert.equal(await world.watcher.first("b"), []);
    assert.equal(world.delays, []);
  },
);

test("given a watched name whose question runs, then first() waits for it", "", async (world) => {
  world.resolver.answers[4] = [["10.0.0.1", 9]];
  world.watch("a");
  assert.equal(await world.watcher.first("a"), ["10.0.0.1"]);
  assert.is(world.resolver.questions, 1);
});

test("given a hundred addresses, then the first 64", "", async (world) => {
  world.resolver.answers[4] = Array.from({ length: 100 }, (_, n) => [`10.0.1.${n}`, 9] as const);
  world.watch("a");
  await settle();
  assert.is(world.seen[0]?.length, 64);
});
names.run();

// RFC 1035 section 4: header of 12 bytes, the question copied, answers with a pointer to its name.
const TYPE: Readonly<Record<number, string>> = { 1: "A", 28: "AAAA" };

function dnsAnswer(
  query: Buffer,
  zone: ReadonlyMap<string, readonly (readonly [data: number[], ttl: number])[]>,
): Buffer {
  const labels: string[] = [];
  let at = 12;
  while (query[at] !== 0) {
    labels.push(query.toString("latin1", at + 1, at + 1 + query[at]!));
    at += 1 + query[at]!;
  }
  const type = query.readUInt16BE(at + 1);
  const question = query.subarray(12, at + 5);
  const records = zone.get(`${labels.join(".").toLowerCase()} ${TYPE[type]}`);
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(records === undefined ? 0x8183 : 0x8180, 2); // NXDOMAIN or no error
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records?.length ?? 0, 6);
  const answers = (records ?? []).map(([data, ttl]) => {
    const record = Buffer.alloc(12);
    record.writeUInt16BE(0xc00c, 0);
    record.writeUInt16BE(type, 2);
    record.writeUInt16BE(1, 4);
    record.writeUInt32BE(ttl, 6);
    record.writeUInt16BE(data.length, 10);
    return Buffer.concat([record, Buffer.from(data)]);
  });
  return Buffer.concat([header, question, ...answers]);
}

const dns = suite("names: a real DNS server");
dns("given a server on loopback, then A and AAAA with their TTL, followed when they change", async () => {
  const zone = new Map<string, readonly (readonly [number[], number])[]>([
    ["origin.test A", [[[192, 0, 2, 7], 1]]],
    ["origin.test AAAA", [[[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], 300]]],
  ]);
  const server: Socket = createSocket("udp4");
  server.on("message", (query, from) => server.send(dnsAnswer(query, zone), from.port, from.address));
  server.bind(0, "127.0.0.1");
  await once(server, "listening");
  const resolver = new Resolver({ timeout: 500, tries: 1 });
  resolver.setServers([`127.0.0.1:${server.address().port}`]);
  const seen: string[][] = [];
  const watcher = new NameWatcher({ log: { info() {}, warn() {} }, hostsFile: "/dev/null", resolver });
  try {
    watcher.watch("origin.test", 80, (endpoints) => void seen.push(endpoints.map(text)));
    assert.equal(await watcher.first("origin.test"), ["192.0.2.7", "2001:db8::7"]);
    zone.set("origin.test A", [[[192, 0, 2, 8], 1]]);
    for (let n = 0; n < 40 && seen.length < 2; n++) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(seen, [
      ["192.0.2.7 80", "2001:db8::7 80"],
      ["192.0.2.8 80", "2001:db8::7 80"],
    ]);
    assert.equal(await watcher.first("missing.test"), []);
  } finally {
    watcher.close();
    server.close();
  }
});
dns.run();
