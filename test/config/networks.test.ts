// Networks by a table, and round trips. What is refused is in broken/proxy-protocol.yaml.
import { isIPv4 } from "node:net";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { formatNetwork, parseNetwork } from "../../config/networks.ts";

const networks = suite("config: networks");

for (const [text, want] of [
  ["10.0.0.0/8", "10.0.0.0/8"],
  ["10.0.0.7", "10.0.0.7/32"],
  ["0.0.0.0/0", "0.0.0.0/0"],
  ["192.168.128.0/17", "192.168.128.0/17"],
  ["2001:DB8::/32", "2001:db8::/32"],
  ["2001:db8:0:0::7", "2001:db8::7/128"],
  ["::/0", "::/0"],
  ["fe80::/10", "fe80::/10"],
  ["2001:db8:8000::/33", "2001:db8:8000::/33"],
] as const) {
  networks(`given ${text}, then ${want}`, () => {
    const parsed = parseNetwork(text);
    assert.is(parsed.ok && formatNetwork(parsed.value), want);
  });
}

networks("given any address and prefix, then it is a network or the remedy names one", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(128), (address, bits) => {
      const prefixLength = isIPv4(address) ? bits >> 2 : bits;
      const parsed = parseNetwork(`${address}/${prefixLength}`);
      const text = parsed.ok
        ? formatNetwork(parsed.value)
        : /^write (\S+) for/.exec(parsed.fault.remedy)![1]!;
      const again = parseNetwork(text);
      assert.ok(again.ok && formatNetwork(again.value) === text, text);
      assert.is(again.value.prefixLength, prefixLength);
    }),
  );
});
networks.run();
