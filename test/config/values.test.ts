// The readers of single values, by tables: what they accept and what it becomes. What they refuse is in broken/.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  formatHostPort,
  isLoopback,
  parseAdminBind,
  parseBind,
  parseServerAddress,
} from "../../config/addresses.ts";
import { formatDuration, parseDuration } from "../../config/durations.ts";
import { nearest, show } from "../../config/problems.ts";

const range = { minMs: 0, maxMs: 604_800_000 };

const durations = suite("config: durations");
for (const [text, ms, printed] of [
  ["0ms", 0, "0ms"],
  ["0h", 0, "0ms"],
  ["250ms", 250, "250ms"],
  ["1000ms", 1000, "1s"],
  ["5s", 5000, "5s"],
  ["60s", 60_000, "60s"],
  ["2m", 120_000, "2m"],
  ["90s", 90_000, "90s"],
  ["1h", 3_600_000, "60m"],
  ["168h", 604_800_000, "168h"],
  ["007s", 7000, "7s"],
] as const) {
  durations(`given ${text}, then ${ms} ms, printed as ${printed}`, () => {
    assert.equal(parseDuration(text, range), { ok: true, value: ms });
    assert.is(formatDuration(ms), printed);
  });
}
durations("given any number of milliseconds, then its text reads back", () => {
  fc.assert(
    fc.property(fc.nat({ max: range.maxMs }), (ms) => {
      assert.equal(parseDuration(formatDuration(ms), range), { ok: true, value: ms });
    }),
  );
});
for (const input of [
  "",
  "s",
  "5",
  "5S",
  "5sec",
  "5s ",
  "1h30m",
  "-5s",
  "+5s",
  "1e3ms",
  ".5s",
  "5 s",
  "٥s",
  "toString",
  "5toString",
  "9".repeat(400),
  null,
  undefined,
  {},
  [],
  Number.NaN,
  5n,
  1.5,
  true,
]) {
  durations(`given ${show(input)}, then a fault with a remedy`, () => {
    const result = parseDuration(input, range);
    assert.ok(!result.ok && result.fault.remedy !== "");
  });
}
durations.run();

const addresses = suite("config: addresses");
for (const [text, host, port] of [
  ["127.0.0.1:8001", "127.0.0.1", 8001],
  ["0.0.0.0:0", "0.0.0.0", 0],
  ["[::]:65535", "::", 65535],
  ["[2001:DB8:0:0::7]:80", "2001:db8::7", 80],
  ["[fe80::1]:80", "fe80::1", 80],
  ["[64:ff9b::192.0.2.1]:80", "64:ff9b::c000:201", 80],
] as const) {
  addresses(`given ${text} to bind, then ${host} and ${port}`, () => {
    assert.equal(parseBind(text), { ok: true, value: { host, port } });
    assert.equal(parseBind(formatHostPort({ host, port })), { ok: true, value: { host, port } });
  });
}
for (const [text, host, port, kind] of [
  ["10.0.0.7:1", "10.0.0.7", 1, "ip"],
  ["[2001:db8::7]:8080", "2001:db8::7", 8080, "ip"],
  ["[0ff0::1]:8080", "ff0::1", 8080, "ip"],
  ["origin:80", "origin", 80, "name"],
  ["Origin-1.example.:80", "Origin-1.example.", 80, "name"],
  ["_svc.ns_1.local:80", "_svc.ns_1.local", 80, "name"],
  ["10.example:80", "10.example", 80, "name"],
] as const) {
  addresses(`given the server ${text}, then the ${kind} ${host}`, () => {
    assert.equal(parseServerAddress(text), { ok: true, value: { host, port, kind } });
  });
}
for (const [host, loopback] of [
  ["127.0.0.1", true],
  ["127.255.255.254", true],
  ["::1", true],
  ["128.0.0.1", false],
  ["0.0.0.0", false],
  ["::", false],
  ["127.example", false],
] as const) {
  addresses(`given ${host}, then ${loopback ? "" : "not "}loopback`, () =>
    assert.is(isLoopback(host), loopback),
  );
}
addresses("given a unix path of 107 bytes, then it is accepted; counted in bytes, not characters", () => {
  const path = `/${"s".repeat(106)}`;
  assert.equal(parseAdminBind(`unix:${path}`), { ok: true, value: { kind: "unix", path } });
  assert.is(parseAdminBind(`unix:/${"é".repeat(54)}`).ok, false);
});
addresses("given any text, then an address or a fault with a remedy", () => {
  const piece = fc.constantFrom(..."[]:.%/*-01aF".split(""), "::", "255", "ffff", "unix:", " ");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      for (const read of [parseBind, parseServerAddress, parseAdminBind]) {
        const result = read(pieces.join(""));
        assert.ok(result.ok || result.fault.remedy !== "");
      }
    }),
    { numRuns: 5000 },
  );
});
addresses.run();

const words = suite("config: words");
for (const [word, want] of [
  ["takeafter", "takeAfter"],
  ["take-after", "takeAfter"],
  ["takeAftre", "takeAfter"],
  ["idleTimeoutMs", "idleTimeout"],
  ["bnid", "bind"],
  ["zebra", undefined],
  ["", undefined],
  ["b", undefined],
] as const) {
  words(`given ${show(word)}, then ${want ?? "nothing"} is near`, () => {
    assert.is(nearest(word, ["name", "bind", "takeAfter", "idleTimeout"]), want);
  });
}
words("given long or wild values, then one short line", () => {
  assert.is(show("x".repeat(61)), `"${"x".repeat(60)}…"`);
  assert.is(show("a\nb\u0000"), '"a\\nb\\u0000"');
  assert.is(show(Number.NEGATIVE_INFINITY), "-Infinity");
});
words.run();
