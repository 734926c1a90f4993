// Loading from the outside: the defaults of the public interface, valid files, files that cannot be read, and
// the promise that no text whatever makes the checks throw.
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { fileBytesMax, loadConfig, parseConfig } from "../../config/load.ts";
import { formatProblem } from "../../config/problems.ts";
import type { Config } from "../../config/schema.ts";

const minimal = `
listeners:
  - { name: api, bind: "127.0.0.1:8001", upstream: origin }
upstreams:
  origin: { servers: [{ address: "10.0.0.7:8080" }] }
`;

const defaults: Config = {
  listeners: [
    {
      name: "api",
      bind: { host: "127.0.0.1", port: 8001 },
      mode: "tcp",
      upstream: "origin",
      takeAfterMs: 10,
      idleTimeoutMs: 300_000,
      maxConnections: 10_000,
      proxyProtocol: { accept: "none", from: [] },
      tls: [],
      routes: [],
      allow: [],
      deny: [],
      intercept: { method: "tproxy", traffic: "forwarded" },
    },
  ],
  upstreams: [
    {
      name: "origin",
      servers: [{ address: { host: "10.0.0.7", port: 8080, kind: "ip" }, weight: 1, maxConnections: 0 }],
      balance: "round-robin",
      maxQueue: 1024,
      connectTimeoutMs: 5000,
      proxyProtocol: "none",
      sourceAddress: "proxy",
      tls: null,
      reuse: "never",
      hostHeader: "keep",
      pool: { min: 2, max: 32, maxSynRate: 200, maxAgeMs: 60_000 },
      learned: { destinations: 256, idleTimeoutMs: 120_000, maxHalfOpen: 1_024, maxSynRate: 2_500 },
      health: null,
    },
  ],
  acceleration: "required",
  workers: "auto",
  httpWorkers: 1,
  driver: "auto",
  drainTimeoutMs: 30_000,
  user: null,
  admin: null,
  log: { level: "info" },
};

function parsed(text: string): Config {
  const result = parseConfig(text, "test.yaml");
  if (!result.ok) throw new Error(result.problems.map(formatProblem).join("\n"));
  return result.config;
}

async function loaded(path: string): Promise<Config> {
  const result = await loadConfig(path);
  if (!result.ok) throw new Error(result.problems.map(formatProblem).join("\n"));
  return result.config;
}

async function firstLine(path: string): Promise<string> {
  const result = await loadConfig(path);
  assert.is(result.ok, false);
  return result.ok ? "" : formatProblem(result.problems[0]!).replace(path, "FILE");
}

const here = (file: string) => new URL(file, import.meta.url).pathname;

const load = suite("config: load");

load("given a minimal file, then every default of the public interface", () => {
  assert.equal(parsed(minimal), defaults);
});

load("given every default written out, then the same config", async () => {
  assert.equal(await loaded(here("valid/explicit-defaults.yaml")), defaults);
});

load("given the same as JSON, then the same config", () => {
  const json = {
    listeners: [{ name: "api", bind: "127.0.0.1:8001", upstream: "origin" }],
    upstreams: { origin: { servers: [{ address: "10.0.0.7:8080" }] } },
  };
  assert.equal(parsed(JSON.stringify(json)), defaults);
  assert.equal(parsed(JSON.stringify(json, null, "\t")), defaults);
});

load("given a byte order mark or CRLF lines, then the same config", () => {
  assert.equal(parsed(`\uFEFF${minimal}`), defaults);
  assert.equal(parsed(minimal.replaceAll("\n", "\r\n")), defaults);
});

load("given a config, then all of it is frozen", () => {
  const assertFrozen = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    assert.ok(Object.isFrozen(value));
    for (const part of Object.values(value)) assertFrozen(part);
  };
  assertFrozen(parsed(minimal));
});

load("given tabs in JSON, admin without keys and a host name, then it is read", async () => {
  const config = await loaded(here("valid/json.yaml"));
  assert.equal(config.listeners[0]!.bind, { host: "::", port: 0 });
  assert.equal(config.admin, { bind: { kind: "unix", path: "/run/accelproxy.sock" }, allowRemote: false });
  assert.equal(config.upstreams[0]!.servers[0]!.address, { host: "origin.example", port: 80, kind: "name" });
  assert.is(config.upstreams[0]!.pool.min, 0);
});

load("given anchors, aliases and merge keys, then their values, in the order of the file", async () => {
  const { listeners, upstreams } = await loaded(here("valid/anchors.yaml"));
  assert.equal(
    listeners.map((l) => [l.name, l.upstream, l.takeAfterMs, l.idleTimeoutMs]),
    [
      ["a", "o", 20, 300_000],
      ["b", "o", 20, 300_000],
      ["c", "p", 20, 20],
      ["d", "o", 20, 300_000],
    ],
  );
  assert.equal(upstreams[1]!.servers, upstreams[0]!.servers);
  assert.is(upstreams[1]!.pool.min, 4096);
});

load("given the demo's file, then the addresses of the lab", async () => {
  const config = await loaded(here("../../config/demo.yaml"));
  assert.equal(config.listeners[0]!.bind, { host: "127.0.0.1", port: 8001 });
  assert.equal(config.upstreams[0]!.servers[0]!.address, { host: "10.77.0.2", port: 8080, kind: "ip" });
  assert.equal(config.admin?.bind, { kind: "tcp", host: "127.0.0.1", port: 9901 });
});

load("given the example file, then it is valid", async () => {
  assert.is((await loaded(here("../../config/example.yaml"))).listeners.length, 4);
});

const valid: readonly [given: string, settings: string, read: (config: Config) => unknown, want: unknown][] =
  [
    ["driver io_uring", "driver: io_uring", (c) => c.driver, "io_uring"],
    ["driver epoll", "driver: epoll", (c) => c.driver, "epoll"],
    ["acceleration off", "acceleration: off", (c) => c.acceleration, "off"],
    ["64 workers", "workers: 64", (c) => c.workers, 64],
    ["no drain", "drainTimeout: 0ms", (c) => c.drainTimeoutMs, 0],
    ["log silent", "log: { level: silent }", (c) => c.log.level, "silent"],
    ["an empty admin", "admin:", (c) => c.admin, null],
    [
      "any 127 address",
      "admin: { bind: 127.1.2.3:0 }",
      (c) => c.admin?.bind,
      { kind: "tcp", host: "127.1.2.3", port: 0 },
    ],
    [
      "a remote admin",
      `admin: { bind: "[::]:9", allowRemote: true }`,
      (c) => c.admin?.bind,
      { kind: "tcp", host: "::", port: 9 },
    ],
  ];
for (const [given, settings, read, want] of valid) {
  load(`given ${given}, then it is accepted`, () => {
    assert.equal(read(parsed(`${minimal}${settings}\n`)), want);
  });
}

load.run();

const unreadable = suite("config: unreadable files");
let folder = "";
unreadable.before(() => {
  folder = mkdtempSync(join(tmpdir(), "accelproxy-config-"));
  chmodSync(folder, 0o755);
});
unreadable.after(() => rmSync(folder, { recursive: true }));

unreadable("given no file, then a problem", async () => {
  const want = "FILE:1:1: the file does not exist (check the path after --config)";
  assert.is(await firstLine(join(folder, "none.yaml")), want);
  assert.is(await firstLine(join("/etc/passwd", "none.yaml")), want);
});

unreadable("given a directory, then a problem", async () => {
  assert.is(await firstLine(folder), "FILE:1:1: this is a directory (give the configuration file in it)");
});

unreadable("given a loop of links, then a problem with the system's code", async () => {
  symlinkSync("loop", join(folder, "loop"));
  assert.is(
    await firstLine(join(folder, "loop")),
    "FILE:1:1: the file cannot be read: ELOOP (give a readable file)",
  );
});

unreadable("given a file without read permission, then a problem", async () => {
  const path = join(folder, "secret.yaml");
  writeFileSync(path, minimal, { mode: 0o000 });
  const isRoot = process.geteuid!() === 0;
  if (isRoot) process.seteuid!(65534); // root reads everything
  try {
    const want = "FILE:1:1: the file may not be read (grant this user read permission)";
    assert.is(await firstLine(path), want);
  } finally {
    if (isRoot) process.seteuid!(0);
  }
});

unreadable("given exactly 1 MiB, then it is read; given one byte more, then a problem", async () => {
  const path = join(folder, "large.yaml");
  writeFileSync(path, `${minimal}#${"x".repeat(fileBytesMax - minimal.length - 1)}`);
  assert.equal(await loaded(path), defaults);
  writeFileSync(path, "\n", { flag: "a" });
  const want = "FILE:1:1: the file is larger than 1 MiB (give a configuration file)";
  assert.is(await firstLine(path), want);
  assert.is(await firstLine("/dev/zero"), want);
});

unreadable("given binary, then a problem", async () => {
  assert.is(
    await firstLine(process.execPath),
    "FILE:1:1: the file is larger than 1 MiB (give a configuration file)",
  );
  const path = join(folder, "binary");
  writeFileSync(path, Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 0x02, 0x01, 0x01, 0x00));
  assert.is(
    await firstLine(path),
    "FILE:1:1: the file contains the control character 0x7f (give a YAML text file)",
  );
});

unreadable("given a pipe, then it is read to its end", async () => {
  const path = join(folder, "pipe");
  execFileSync("mkfifo", [path]);
  const config = loaded(path);
  const halfway = minimal.length >> 1;
  const { open } = await import("node:fs/promises");
  const pipe = await open(path, "w");
  await pipe.write(minimal.slice(0, halfway));
  await pipe.write(minimal.slice(halfway));
  await pipe.close();
  assert.equal(await config, defaults);
});

unreadable.run();

const fuzz = suite("config: any text");

// The file may hold anything at all: a thrown error here would be an exit without FILE:LINE:COL.
const assertExplained = (text: string): void => {
  const result = parseConfig(text, "f");
  if (result.ok) return;
  assert.ok(result.problems.length > 0);
  const lines = text.split("\n");
  for (const p of result.problems) {
    assert.ok(p.line >= 1 && p.line <= lines.length, `line ${p.line} of ${lines.length}`);
    assert.ok(
      p.column >= 1 && p.column <= lines[p.line - 1]!.length + 1,
      `column ${p.column} in line ${p.line}`,
    );
    assert.not.match(formatProblem(p), /[\n\r]|undefined|\[object/);
  }
  const places = result.problems.map((p) => p.line * 1e6 + p.column);
  assert.equal(
    places,
    places.toSorted((a, b) => a - b),
  );
};

const example = readFileSync(here("valid/anchors.yaml"), "utf8");

fuzz("given pieces of YAML in any order, then problems with places inside the text", () => {
  const piece = fc.constantFrom(
    ..."{}[]:,-?&*!|>'\"%@`#~<".split(""),
    "\n",
    "  ",
    "\t",
    "a: ",
    "<<: ",
    "*a",
    "&a ",
    "listeners:\n",
    "upstreams:\n",
    "- ",
    "name",
    "...\n",
    "---\n",
    "é",
    "\u{1F600}",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => assertExplained(pieces.join(""))),
    { numRuns: 1000 },
  );
});

fuzz("given a valid file with a part cut out or doubled, then a config or problems with places", () => {
  const at = fc.nat({ max: example.length });
  fc.assert(
    fc.property(at, at, fc.constantFrom("", ":", "\n", "[", "0", "null", '"', "*"), (from, to, between) =>
      assertExplained(example.slice(0, from) + between + example.slice(to)),
    ),
    { numRuns: 1000 },
  );
});

fuzz("given any JSON in place of any value, then a config or problems with places", () => {
  const place = fc.constantFrom(
    "name",
    "bind",
    "upstream",
    "takeAfter",
    "servers",
    "pool",
    "address",
    "min",
    "upstreams",
  );
  fc.assert(
    fc.property(place, fc.jsonValue({ maxDepth: 2 }), (key, value) => {
      const text = minimal
        .replace("}]", ", weight: 1 }], pool: { min: 1 }")
        .replace(`${key}:`, `${key}: ${JSON.stringify(value)} #`);
      assertExplained(text);
    }),
    { numRuns: 1000 },
  );
});

fuzz("given nesting of any depth, then a problem", () => {
  for (const opening of ["[", "{a: ", "- ", "&a [*a, "]) {
    for (let depth = 1; depth < 40_000; depth *= 2) assertExplained(opening.repeat(depth));
  }
  for (let depth = 1; depth < 40_000; depth *= 2) assertExplained("[".repeat(depth) + "]".repeat(depth));
});

fuzz("given 100,000 aliases, then a problem within a second or two", () => {
  assertExplained(`a: &a 1\n${"b: *a\n".repeat(100_000)}`);
});

fuzz.run();
