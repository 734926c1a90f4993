// Goal: what a probe concludes from its samples. Method: tables of samples for the pure parts; each conclusion has
// a neighbour just across its threshold that must come out otherwise.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  distribution,
  type Finding,
  findings,
  type Observations,
  saving,
} from "../../proxy/probe/analysis.ts";
import type { Exchange, Outcome } from "../../proxy/probe/exchange.ts";
import { isOver, nextRepetitionMs, readLifetime, type Watched } from "../../proxy/probe/lifetime.ts";
import { headRequest, recognize, statusOf } from "../../proxy/probe/protocol.ts";
import { type Grounds, recommend } from "../../proxy/probe/recommendation.ts";
import { formatReport, type ProbeReport } from "../../proxy/probe/report.ts";

function answered(ms: number, more: Partial<Exchange> = {}): Exchange {
  return {
    outcome: "answered",
    ms,
    head: "",
    wasAsked: true,
    dataRttMs: undefined,
    wasRepeated: false,
    ...more,
  };
}

function failed(outcome: Outcome): Exchange {
  return answered(0, { outcome, ms: undefined });
}

const times = (count: number, exchange: Exchange): Exchange[] =>
  Array.from({ length: count }, () => exchange);

const distributions = suite("probe: distributions");
distributions("given samples in any order, then percentiles are samples, by nearest rank", () => {
  const samples = [5, 1, 4, 2, 3, 10, 9, 8, 7, 6].map((ms) => answered(ms));
  assert.equal(distribution(samples), { n: 10, p50: 5, p90: 9, p99: 10, failed: {} });
});
distributions("given any samples, then percentiles are among them and in order", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1 }), (values) => {
      const { n, p50, p90, p99 } = distribution(values.map((ms) => answered(ms)));
      assert.is(n, values.length);
      for (const value of [p50, p90, p99]) assert.ok(values.includes(value!));
      assert.ok(p50! <= p90! && p90! <= p99!);
    }),
  );
});
distributions("given failures, then they are counted by outcome and have no time", () => {
  const found = distribution([answered(4), failed("reset"), failed("vanished"), failed("reset")]);
  assert.equal(found, { n: 1, p50: 4, p90: 4, p99: 4, failed: { reset: 2, vanished: 1 } });
});
distributions("given no sample at all, then there is no percentile and no saving", () => {
  const none = distribution([failed("vanished")]);
  assert.equal(none, { n: 0, p50: null, p90: null, p99: null, failed: { vanished: 1 } });
  assert.is(saving(distribution([answered(4)]), none), null);
});
distributions("given two medians, then the saving is their difference", () => {
  const gain = saving(distribution([answered(80)]), distribution([answered(40)]));
  assert.equal(gain, { ms: 40, percent: 50 });
});
distributions.run();

const middlebox = suite("probe: middlebox");
const quiet = { options: ["MSS 1460"], ttls: [64], windows: [65_160] };
const seen = (more: Partial<Observations>): Observations => ({
  rttMs: 40,
  direct: times(20, answered(80)),
  accelerated: times(20, answered(40, { dataRttMs: 40 })),
  traits: quiet,
  ...more,
});
const cases: readonly (readonly [given: string, seen: Observations, want: readonly Finding["kind"][]])[] = [
  ["an ordinary path", seen({}), []],
  ["data acknowledged half an RTT late", seen({ accelerated: [answered(70, { dataRttMs: 69 })] }), []],
  ["data acknowledged much later", seen({ accelerated: [answered(72, { dataRttMs: 71 })] }), ["syn-proxy"]],
  [
    "one early acknowledgement among late ones",
    seen({ accelerated: [answered(72, { dataRttMs: 100 }), answered(40, { dataRttMs: 40 })] }),
    [],
  ],
  ["a window of 0", seen({ traits: { ...quiet, windows: [0, 65_160] } }), ["syn-proxy"]],
  ["two TTLs", seen({ traits: { ...quiet, ttls: [60, 64] } }), ["ttl"]],
  ["two sets of options", seen({ traits: { ...quiet, options: ["MSS 1400", "MSS 1460"] } }), ["options"]],
  ["no TTL, as on IPv6", seen({ traits: { ...quiet, ttls: [] } }), []],
  [
    "one loss in twenty",
    seen({ accelerated: [failed("vanished"), ...times(19, answered(40, { dataRttMs: 40 }))] }),
    [],
  ],
  [
    "two losses in twenty",
    seen({ accelerated: [...times(2, failed("reset")), ...times(18, answered(40, { dataRttMs: 40 }))] }),
    ["half-opens-lost"],
  ],
  [
    "as many losses of ordinary connections",
    seen({
      direct: [...times(2, failed("reset")), ...times(18, answered(80))],
      accelerated: [...times(2, failed("reset")), ...times(18, answered(40, { dataRttMs: 40 }))],
    }),
    [],
  ],
  [
    "a quarter of first data sent again",
    seen({
      accelerated: [answered(240, { wasRepeated: true }), ...times(3, answered(40, { dataRttMs: 40 }))],
    }),
    [],
  ],
  [
    "most first data sent again",
    seen({ accelerated: [...times(2, answered(240, { wasRepeated: true })), answered(40)] }),
    ["half-opens-lost"],
  ],
  [
    "no half-open at all",
    seen({ rttMs: 0, accelerated: times(3, failed("unavailable")) }),
    ["handshakes-lost"],
  ],
];
for (const [given, observations, want] of cases) {
  middlebox(`given ${given}, then ${want.join(", ") || "nothing"}`, () => {
    assert.equal(
      findings(observations).map(({ kind }) => kind),
      want,
    );
  });
}
middlebox.run();

const lifetimes = suite("probe: lifetime");
for (const [given, watched, want] of [
  [
    "a short watch",
    { repeatedAtMs: [1_000, 3_000], watchedMs: 3_700, afterwards: "same sequence number" },
    "held",
  ],
  [
    "silence and the same numbers",
    { repeatedAtMs: [], watchedMs: 3_700, afterwards: "same sequence number" },
    "cookies",
  ],
  ["a RST", { repeatedAtMs: [1_000], watchedMs: 1_500, afterwards: "reset" }, "reset"],
  ["no answer", { repeatedAtMs: [1_000], watchedMs: 3_700, afterwards: "silence" }, "silent"],
] as const satisfies readonly (readonly [string, Watched, string])[]) {
  lifetimes(`given ${given}, then ${want}`, () => {
    assert.equal(readLifetime(watched), { fate: want, lifetimeMs: undefined });
  });
}
// Linux: the SYN-ACK again after 1, 3, 7 … s; forgotten when the next one would be due.
for (const [retries, lifetimeMs] of [
  [0, 1_000],
  [1, 3_000],
  [2, 7_000],
  [5, 63_000],
] as const) {
  lifetimes(`given tcp_synack_retries = ${retries}, then ${lifetimeMs} ms`, () => {
    const repeatedAtMs = Array.from({ length: retries }, (_, index) => (2 ** (index + 1) - 1) * 1_000);
    const watched = { repeatedAtMs, watchedMs: 70_000, afterwards: "another sequence number" } as const;
    assert.equal(readLifetime(watched), { fate: "forgotten", lifetimeMs });
    assert.ok(isOver(repeatedAtMs, 70_000));
    assert.not(isOver(repeatedAtMs, nextRepetitionMs(repeatedAtMs)), "the next one may come just now");
  });
}
lifetimes("given timers that are all late, then the next one is expected late as well", () => {
  assert.is(nextRepetitionMs([3_000, 9_000]), 21_000);
});
lifetimes.run();

const recommendations = suite("probe: recommendation");
const grounds = (more: Partial<Grounds>): Grounds => ({
  rttMs: 40,
  saving: { ms: 40, percent: 50 },
  handshakeOnly: false,
  cookies: false,
  findings: [],
  ...more,
});
const lostFinding: Finding = { kind: "half-opens-lost", detail: "3 of 3" };
for (const [given, input, pool, reason] of [
  ["an ordinary upstream", grounds({}), { min: 2, max: 32 }, /saves 40\.0 ms .* about 210 new/],
  ["a near one", grounds({ rttMs: 2, saving: { ms: 2, percent: 50 } }), { min: 2, max: 24 }, /saves 2\.0 ms/],
  ["a far one", grounds({ rttMs: 400 }), { min: 2, max: 64 }, /half of the upstream's backlog/],
  ["one beyond reach", grounds({ rttMs: 801 }), null, /800 ms/],
  ["cookies", grounds({ cookies: true }), { min: 1, max: 8 }, /SYN cookies/],
  ["losses", grounds({ findings: [lostFinding] }), null, /3 of 3/],
  [
    "a suspected SYN proxy",
    grounds({ findings: [{ kind: "syn-proxy", detail: "" }] }),
    { min: 2, max: 32 },
    /saves/,
  ],
  ["no answer", grounds({ saving: null }), null, /no half-open/],
  [
    "a slow application",
    grounds({ saving: { ms: 40, percent: 4.9 } }),
    null,
    /too little to gain: 40\.0 ms, 5 %/,
  ],
  [
    "its handshake alone",
    grounds({ saving: { ms: 40, percent: 4.9 }, handshakeOnly: true }),
    { min: 2, max: 32 },
    /40/,
  ],
  ["loopback", grounds({ rttMs: 0.1, saving: { ms: 3, percent: 50 } }), null, /too little/],
  ["a loss of time", grounds({ saving: { ms: -900, percent: -900 } }), null, /too little/],
] as const) {
  recommendations(`given ${given}, then ${pool === null ? "off" : `max ${pool.max}`}`, () => {
    const found = recommend(input);
    assert.equal([found.accelerate, found.pool], [pool !== null, pool]);
    assert.match(found.reason, reason);
  });
}
recommendations.run();

const protocols = suite("probe: protocol");
for (const [given, exchange, port, want] of [
  ["an HTTP answer", answered(1, { head: "HTTP/1.1 404 Not Found\r\n" }), 8080, "http"],
  ["a TLS alert", answered(1, { head: "\x15\x03\x03\0\x02\x02\x46" }), 8080, "tls"],
  ["port 443", { ...answered(1), outcome: "established" }, 443, "tls"],
  ["a greeting", answered(1, { head: "220 ready", wasAsked: false }), 25, "greets"],
  ["something else", answered(1, { head: "-ERR" }), 6379, "other"],
  ["a FIN", failed("closed"), 8080, "other"],
] as const) {
  protocols(`given ${given}, then ${want}`, () => assert.is(recognize(exchange, port), want));
}
protocols("given hosts of all kinds, then the Host header names them as URLs do", () => {
  const host = (name: string, port: number) =>
    /\r\nHost: (.*)\r\n/.exec(headRequest({ host: name, port }))?.[1];
  assert.is(host("example.org", 80), "example.org");
  assert.is(host("example.org", 8080), "example.org:8080");
  assert.is(host("2001:db8::7", 80), "[2001:db8::7]");
  assert.is(host("2001:db8::7", 81), "[2001:db8::7]:81");
});
protocols("given status lines, then their codes", () => {
  assert.is(statusOf("HTTP/1.1 204 No Content\r\n"), 204);
  assert.is(statusOf("HTTP/2 200\r\n"), 200);
  assert.is(statusOf("ICY 200 OK\r\n"), undefined);
});
protocols.run();

const reports = suite("probe: report");
const report: ProbeReport = {
  target: "origin:80",
  address: "10.0.0.7:80",
  protocol: "http",
  timed: "first-byte",
  status: 200,
  rttMs: 40.2,
  direct: { n: 20, p50: 80.6, p90: 81, p99: 82.04, failed: {} },
  accelerated: { n: 19, p50: 40.5, p90: 41, p99: 42, failed: { vanished: 1 } },
  saving: { ms: 40.1, percent: 49.8 },
  halfOpen: { watchedMs: 3_700, repeatedAtMs: [1_010, 3_020], fate: "held", lifetimeMs: null },
  cookies: false,
  middlebox: [],
  recommendation: { accelerate: true, pool: { min: 2, max: 32 }, reason: "because" },
};
reports("given a report, then people read its figures in columns", () => {
  assert.is(
    formatReport(report),
    `origin:80 (10.0.0.7:80) speaks HTTP, HEAD / is answered with 200

round trip    40.2 ms from SYN to SYN-ACK

ms to the first byte                   n     p50     p90     p99
  direct                              20    80.6    81.0    82.0
  accelerated                         19    40.5    41.0    42.0  (1 vanished)

saving        40.1 ms, 50 % of the median
half-opens    SYN-ACK again after 1.0 s, 3.0 s; still held after 3.7 s
SYN cookies   no
middlebox     none seen
recommended   pool: { min: 2, max: 32 }
              because
`,
  );
});
reports("given nothing but failures, then it says so without a number", () => {
  const none = { n: 0, p50: null, p90: null, p99: null, failed: { unavailable: 3 } };
  const lines = formatReport({
    ...report,
    protocol: "other",
    timed: "handshake",
    status: null,
    rttMs: null,
    accelerated: none,
    saving: null,
    halfOpen: null,
    cookies: true,
    middlebox: [
      { kind: "ttl", detail: "one" },
      { kind: "options", detail: "two" },
    ],
    recommendation: { accelerate: false, pool: null, reason: "nothing works" },
  });
  for (const line of [
    /^origin:80 \(10\.0\.0\.7:80\) does not speak HTTP: only the handshake is timed$/m,
    /^round trip {4}unknown$/m,
    /^ {2}accelerated {26}0 {7}- {7}- {7}- {2}\(3 unavailable\)$/m,
    /^SYN cookies {3}yes$/m,
    /^middlebox {5}one\n {14}two$/m,
    /^recommended {3}no acceleration for this upstream\n {14}nothing works$/m,
  ]) {
    assert.match(lines, line);
  }
});
reports.run();
