// Goal: the rules say what the configuration says, and leave alone what is the proxy's own or this host's.
// Method: the text for small configurations. Whether the kernel takes it, and what it does, is tested end to end.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseConfig } from "../../../config/load.ts";
import type { Config } from "../../../config/schema.ts";
import {
  deliveredFamilies,
  interceptCommands,
  interceptedListeners,
} from "../../../proxy/intercept/ruleset.ts";

function config(...listeners: readonly string[]): Config {
  const text = `listeners: [${listeners.join(", ")}]\nupstreams: { learned: {} }`;
  const parsed = parseConfig(text, "test.yaml");
  if (!parsed.ok) throw new Error(parsed.problems.map(({ problem }) => problem).join("\n"));
  return parsed.config;
}

const listener = (keys: string): string => `{ name: a, mode: transparent, upstream: learned, ${keys} }`;
const rulesOf = (...listeners: readonly string[]): string[] =>
  interceptCommands(config(...listeners)).split("\n");

const ruleset = suite("interception: rules");

ruleset("given tproxy of what is forwarded, then marked for the listener, unless it is for this host", () => {
  const rules = rulesOf(listener("bind: 0.0.0.0:7070"));
  assert.equal(rules.slice(0, 2), [
    "add table inet accelproxy_intercept",
    "delete table inet accelproxy_intercept",
  ]);
  assert.ok(
    rules.includes("add rule inet accelproxy_intercept tproxy_forwarded fib daddr type local return"),
  );
  assert.ok(
    rules.includes(
      "add rule inet accelproxy_intercept tproxy_forwarded_0 meta l4proto tcp tproxy ip to :7070 meta mark set 1634756914 accept",
    ),
    rules.join("\n"),
  );
  assert.not.ok(rules.some((rule) => rule.includes("output")));
});

ruleset("given redirect of this host's own, then all but what the proxy marked", () => {
  const rules = rulesOf(listener('bind: "[::]:7070", intercept: { method: redirect, traffic: local }'));
  const own = rules.findIndex((rule) =>
    /redirect_local meta mark \{ 1634756913, \d+, \d+ \} return$/.test(rule),
  );
  const jump = rules.findIndex((rule) =>
    rule.endsWith("redirect_local meta nfproto ipv6 jump redirect_local_0"),
  );
  assert.ok(own >= 0 && own < jump, rules.join("\n"));
  assert.ok(rules.some((rule) => rule.endsWith("redirect_local_0 meta l4proto tcp redirect to :7070")));
});

ruleset("given tproxy or addresses of clients, then their packets are delivered here; else not", () => {
  const isDelivered = (rules: readonly string[]) =>
    rules.some((rule) => rule.includes("socket transparent 1"));
  assert.ok(isDelivered(rulesOf(listener("bind: 0.0.0.0:7070"))));
  const redirected = listener("bind: 0.0.0.0:7070, intercept: { method: redirect }");
  assert.not.ok(isDelivered(rulesOf(redirected)));
  const text = (keys: string) =>
    `listeners: [{ name: a, bind: "[::]:80", upstream: o }]\nupstreams: { o: { servers: [{ address: 10.0.0.1:1 }]${keys} } }`;
  for (const [keys, families] of [
    ["", []],
    [", sourceAddress: client", [6]],
  ] as const) {
    const parsed = parseConfig(text(keys), "test.yaml");
    assert.ok(parsed.ok);
    assert.is(isDelivered(interceptCommands(parsed.config).split("\n")), families.length > 0);
    assert.equal(deliveredFamilies(parsed.config), families);
  }
});

ruleset("given any method, then only a SYN begins", () => {
  for (const method of ["tproxy", "redirect"]) {
    for (const traffic of ["forwarded", "local"]) {
      const rules = rulesOf(
        listener(`bind: 0.0.0.0:7070, intercept: { method: ${method}, traffic: ${traffic} }`),
      );
      const notSyn = rules.findIndex((rule) =>
        rule.endsWith(" tcp flags & (fin | syn | rst | ack) != syn return"),
      );
      const jump = rules.findIndex((rule) => / jump /.test(rule));
      assert.ok(notSyn >= 0 && notSyn < jump, rules.join("\n"));
    }
  }
});

ruleset("given lists, then deny before allow, each in the listener's family", () => {
  const lists = 'allow: [10.0.0.0/8:443, "2001:db8::/32"], deny: [10.0.0.1, "[2001:db8::1]:22"]';
  const rules = rulesOf(listener(`bind: 10.9.9.9:7070, ${lists}`)).filter((rule) =>
    rule.includes("_forwarded_0 "),
  );
  assert.equal(
    rules.map((rule) => rule.replace(/^.*_forwarded_0 /, "")),
    [
      "ip daddr 10.0.0.1/32 return",
      "ip daddr 10.0.0.0/8 tcp dport 443 meta l4proto tcp tproxy ip to 10.9.9.9:7070 meta mark set 1634756914 accept",
    ],
  );
});

ruleset("given no transparent listener, then an empty table; given port 0, then a RangeError", () => {
  const text =
    "listeners: [{ name: a, bind: 0.0.0.0:1, upstream: o }]\nupstreams: { o: { servers: [{ address: 10.0.0.1:1 }] } }";
  const parsed = parseConfig(text, "test.yaml");
  assert.ok(parsed.ok);
  assert.is(interceptCommands(parsed.config).trim().split("\n").length, 3);
  assert.throws(
    () => interceptedListeners(config(listener("bind: 0.0.0.0:0"))),
    (error: unknown) => error instanceof RangeError,
  );
});
ruleset.run();
