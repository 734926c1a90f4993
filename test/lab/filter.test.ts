// Goal: rules match the packets they describe, count them and act on the ones asked for.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Rule, RuleSet } from "../../bench/lab/filter.ts";
import { encodePacket } from "../../native/wire/packet.ts";
import { ACK, FIN, PSH, RST, SYN } from "../../native/wire/tcp.ts";

const UDP = Uint8Array.of(
  0x45,
  0,
  0,
  28,
  0,
  0,
  0,
  0,
  64,
  17,
  0,
  0,
  10,
  77,
  0,
  1,
  10,
  77,
  0,
  2,
  0,
  9,
  0,
  9,
  0,
  8,
  0,
  0,
);

function tcp(flags: number, payload = "", family: 4 | 6 = 4): Uint8Array {
  const size = family === 4 ? 4 : 16;
  return encodePacket(
    {
      src: new Uint8Array(size).fill(1),
      dst: new Uint8Array(size).fill(2),
      ttl: 64,
      sport: 4000,
      dport: 80,
      seq: 1,
      ack: 2,
      flags,
      window: 100,
      options: {},
    },
    Buffer.from(payload, "latin1"),
  );
}

const matching = suite("lab: rules");
for (const [given, condition, packet, want] of [
  ["no condition and UDP", {}, UDP, 1],
  ["a TCP condition and UDP", { payload: "none" }, UDP, 0],
  ["another sender", { from: "far" }, tcp(SYN), 0],
  ["this sender", { from: "near" }, tcp(SYN), 1],
  ["flags S and a SYN", { flags: "S" }, tcp(SYN), 1],
  ["flags S and a SYN-ACK", { flags: "S" }, tcp(SYN | ACK), 0],
  ["flags A and data", { flags: "A" }, tcp(ACK | PSH, "x"), 1],
  ["flags R or RA and a RST", { flags: ["R", "RA"] }, tcp(RST), 1],
  ["flags R or RA and a FIN", { flags: ["R", "RA"] }, tcp(FIN | ACK), 0],
  ["the port", { port: 80 }, tcp(ACK), 1],
  ["the source port", { sport: 80 }, tcp(ACK), 0],
  ["the destination port", { dport: 80 }, tcp(ACK), 1],
  ["payload wanted and none there", { payload: "some" }, tcp(ACK), 0],
  ["payload wanted and there", { payload: "some" }, tcp(ACK, "x"), 1],
  ["text that is there", { contains: "GET /" }, tcp(ACK, "GET / HTTP/1.1"), 1],
  ["text that is not there", { contains: "POST" }, tcp(ACK, "GET / HTTP/1.1"), 0],
  ["IPv6 wanted and IPv4", { family: 6 }, tcp(ACK), 0],
  ["IPv6 wanted and there", { family: 6, flags: "S" }, tcp(SYN, "", 6), 1],
] as const) {
  matching(`given ${given}, then ${want} match`, () => {
    const rules = new RuleSet([{ name: "r", action: "drop", ...condition } as Rule]);
    assert.is(rules.decide("near", packet), want === 1 ? "drop" : "pass");
    assert.equal(rules.counters(), { r: { matched: want, acted: want } });
  });
}

matching("given skip and limit, then only those in between are dropped and all are counted", () => {
  const rules = new RuleSet([{ name: "third", action: "drop", flags: "S", skip: 2, limit: 1 }]);
  const decisions = Array.from({ length: 5 }, () => rules.decide("near", tcp(SYN)));
  assert.equal(decisions, ["pass", "pass", "drop", "pass", "pass"]);
  assert.equal(rules.counters(), { third: { matched: 5, acted: 1 } });
});

matching("given several rules, then the first that acts decides and counting ones let on", () => {
  const rules = new RuleSet([
    { name: "all", action: "count" },
    { name: "slow", action: { delayMs: 5 }, limit: 1 },
    { name: "rest", action: "drop" },
  ]);
  assert.equal([rules.decide("near", UDP), rules.decide("near", UDP)], [{ delayMs: 5 }, "drop"]);
  assert.equal(rules.counters(), {
    all: { matched: 2, acted: 0 },
    slow: { matched: 2, acted: 1 },
    rest: { matched: 1, acted: 1 },
  });
});

matching("given unknown flags or a name used twice, then it is refused", () => {
  assert.throws(() => new RuleSet([{ name: "r", action: "drop", flags: "X" }]), /F, S, R and A/);
  assert.throws(
    () =>
      new RuleSet([
        { name: "r", action: "drop" },
        { name: "r", action: "count" },
      ]),
    /same name/,
  );
});
matching.run();
