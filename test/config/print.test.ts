// formatConfig() writes what parseConfig() reads: for any valid configuration the two are inverse, whatever
// the names look like (null, 1e3, true), and the text has every key.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parse } from "yaml";
import { parseConfig } from "../../config/load.ts";
import { formatConfig } from "../../config/print.ts";
import { formatProblem } from "../../config/problems.ts";
import { type Config, keysByPlace } from "../../config/schema.ts";

function parsed(text: string): Config {
  const result = parseConfig(text, "test.yaml");
  if (!result.ok) throw new Error(`${result.problems.map(formatProblem).join("\n")}\n${text}`);
  return result.config;
}

const name = fc
  .oneof(
    fc.stringMatching(/^[A-Za-z0-9_.-]{1,64}$/),
    fc.constantFrom(
      "null",
      "true",
      "1e3",
      "0x1F",
      "-",
      "..",
      "---",
      "constructor",
      "toString",
      "7",
      "1.5",
      "~a".slice(1),
    ),
  )
  .filter((text) => text !== "__proto__");
const duration = (minMs: number, maxMs: number) =>
  fc
    .tuple(
      fc.constantFrom(["ms", 1], ["s", 1000], ["m", 60_000], ["h", 3_600_000] as const),
      fc.nat({ max: maxMs }),
    )
    .map(
      ([[unit, factor], ms]) =>
        `${Math.max(Math.ceil(minMs / Number(factor)), Math.floor(ms / Number(factor)))}${unit}`,
    )
    .filter(
      (text) =>
        parseFloat(text) * { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[/[a-z]+/.exec(text)![0] as "ms"] <=
        maxMs,
    );
const ip = fc.oneof(
  fc
    .tuple(fc.integer({ min: 1, max: 223 }), fc.nat({ max: 255 }), fc.nat({ max: 255 }))
    .map(([a, b, c]) => `${a}.${b}.0.${c}`),
  fc
    .ipV6()
    .filter((text) => !/^(ff|[0:.]*$|[0:]*:ffff:)|\./i.test(text))
    .map((text) => `[${text}]`),
);
const optional = { requiredKeys: [] as never[] };
const host = fc.constantFrom("example.com", "a.b.example", "xn--bcher-kva.example");

const health = fc.record(
  {
    interval: duration(100, 3_600_000),
    timeout: duration(1, 3_600_000),
    unhealthyAfter: fc.integer({ min: 1, max: 100 }),
    healthyAfter: fc.integer({ min: 1, max: 100 }),
    path: fc.oneof(fc.constant(null), fc.stringMatching(/^\/[!"$-~]{0,40}$/)),
  },
  optional,
);

/** Listeners and upstreams of one file are all for one of them: some settings of either mean nothing to the other. */
type Mode = "tcp" | "http";

const upstream = fc
  .record({
    servers: fc.uniqueArray(
      fc.tuple(
        ip,
        fc.integer({ min: 1, max: 65535 }),
        fc.record({ weight: fc.integer({ min: 1, max: 256 }), maxConnections: fc.nat(1_000_000) }, optional),
      ),
      {
        minLength: 1,
        maxLength: 4,
        selector: ([, port]) => port,
      },
    ),
    rest: fc.record(
      {
        balance: fc.constantFrom("round-robin", "least-connections", "random"),
        maxQueue: fc.nat(1_000_000),
        connectTimeout: duration(1, 3_600_000),
        health: fc.oneof(fc.constant(null), health),
      },
      optional,
    ),
    tcp: fc.record({ proxyProtocol: fc.constantFrom("none", "v1", "v2") }, optional),
    bounds: fc.tuple(fc.nat({ max: 4096 }), fc.integer({ min: 1, max: 4096 })),
    http: fc.record(
      {
        tls: fc.record(
          { servername: host, ca: fc.constantFrom("ca.pem", null), rejectUnauthorized: fc.boolean() },
          optional,
        ),
        reuse: fc.oneof(fc.constant("never"), duration(1, 3_600_000)),
        hostHeader: fc.oneof(fc.constant("keep"), host),
      },
      optional,
    ),
    pool: fc.record(
      { maxSynRate: fc.integer({ min: 1, max: 100_000 }), maxAge: duration(1000, 86_400_000) },
      optional,
    ),
  })
  .map(({ servers, rest, tcp, http, bounds: [a, b], pool }) => (mode: Mode) => ({
    ...rest,
    ...(mode === "http" ? http : tcp),
    servers: servers.map(([host, port, rest]) => ({ address: `${host}:${port}`, ...rest })),
    pool: { ...pool, min: Math.min(a, b), max: Math.max(a, b) },
  }));

const httpSettings = fc.record(
  {
    tls: fc.array(
      fc.record(
        {
          cert: fc.constant("a.pem"),
          key: fc.constant("/b"),
          names: fc.constantFrom([], ["a.example", "*.b.example"]),
        },
        { requiredKeys: ["cert", "key"] },
      ),
      { maxLength: 2 },
    ),
    routes: fc.uniqueArray(
      fc.record(
        {
          host: fc.oneof(host, fc.constantFrom("*", "*.example.com")),
          pathPrefix: fc.constantFrom("/", "/api", "/a%20b/"),
          timeout: duration(1, 86_400_000),
          retries: fc.nat({ max: 10 }),
        },
        optional,
      ),
      { maxLength: 3, selector: ({ host = "*", pathPrefix = "/" }) => host + pathPrefix },
    ),
  },
  optional,
);

const tcpSettings = fc.record(
  {
    proxyProtocol: fc.record({
      accept: fc.constantFrom("none", "v1", "v2", "any"),
      from: fc.array(fc.constantFrom("10.0.0.0/8", "2001:DB8::/32", "10.0.0.7"), {
        minLength: 1,
        maxLength: 3,
      }),
    }),
  },
  optional,
);

const listenerSettings = fc.record(
  {
    takeAfter: duration(0, 60_000),
    idleTimeout: duration(1, 604_800_000),
    maxConnections: fc.integer({ min: 1, max: 1_000_000 }),
  },
  optional,
);

const settings = fc.record(
  {
    acceleration: fc.constantFrom("required", "preferred", "off"),
    workers: fc.oneof(fc.constant("auto"), fc.integer({ min: 1, max: 64 })),
    driver: fc.constantFrom("auto", "io_uring", "epoll"),
    drainTimeout: duration(0, 86_400_000),
    httpWorkers: fc.integer({ min: 1, max: 64 }),
    admin: fc.oneof(
      fc.constantFrom(null, {}),
      fc.stringMatching(/^\/[ -~é]{0,49}[a-z]$/).map((path) => ({ bind: `unix:${path}` })),
      fc
        .tuple(ip, fc.nat({ max: 999 }))
        .map(([host, port]) => ({ bind: `${host}:${port}`, allowRemote: true })),
    ),
    log: fc.record({ level: fc.constantFrom("trace", "silent", "warn") }, optional),
  },
  optional,
);

const file = fc
  .record({
    upstreams: fc.uniqueArray(fc.tuple(name, upstream), {
      minLength: 1,
      maxLength: 4,
      selector: ([key]) => key,
    }),
    mode: fc.constantFrom<Mode>("tcp", "http"),
    listeners: fc.uniqueArray(fc.tuple(name, ip, fc.nat(), listenerSettings, tcpSettings, httpSettings), {
      minLength: 1,
      maxLength: 5,
      selector: ([key]) => key,
    }),
    settings,
  })
  .map(({ upstreams, mode, listeners, settings }) => ({
    listeners: listeners.map(([name, host, pick, rest, tcp, http], i) => ({
      ...rest,
      mode,
      ...(mode === "tcp"
        ? tcp
        : {
            ...http,
            routes: (http.routes ?? []).map((route) => ({ ...route, upstream: upstreams[0]![0] })),
          }),
      name,
      bind: `${host}:${pick % 3 === 0 ? 0 : 1000 + i}`,
      upstream: upstreams[pick % upstreams.length]![0],
    })),
    upstreams: Object.fromEntries(upstreams.map(([name, upstream]) => [name, upstream(mode)])),
    ...settings,
  }));

const print = suite("config: print");

print("given any valid config, then its text reads back as the same config and prints the same text", () => {
  fc.assert(
    fc.property(file, (value) => {
      const config = parsed(JSON.stringify(value));
      const text = formatConfig(config);
      assert.equal(parsed(text), config);
      assert.is(formatConfig(parsed(text)), text);
    }),
    { numRuns: 200 },
  );
});

print("given a minimal config, then the text has every key, in units people write", () => {
  const text = formatConfig(
    parsed(
      `{ listeners: [{ name: "7", bind: "[::]:8001", upstream: o, mode: http, tls: [{ cert: c, key: k }], routes: [{ upstream: o }] }],
        upstreams: { o: { servers: [{ address: a:1 }], tls: {}, health: {} } }, admin: {} }`,
    ),
  );
  for (const key of [...keysByPlace.values()].flat()) assert.match(text, new RegExp(`^[ -]*${key}:`, "m"));
  for (const line of [
    'bind: "[::]:8001"',
    "takeAfter: 10ms",
    "idleTimeout: 5m",
    "maxAge: 60s",
    "drainTimeout: 30s",
    'name: "7"',
    "timeout: 60s",
  ]) {
    assert.match(text, line);
  }
  const written: { upstreams: { o: object }; admin: unknown } = parse(text);
  assert.equal(Object.keys(written), keysByPlace.get(""));
  assert.equal(Object.keys(written.upstreams.o), keysByPlace.get("upstreams.*"));
  assert.equal(written.admin, { bind: "unix:/run/accelproxy.sock", allowRemote: false });
});

print.run();
