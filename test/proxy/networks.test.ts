// Goal: an address is in a network exactly when Node's own list says so.
// Method: random networks, and addresses one bit away from them.
import { BlockList, isIPv4 } from "node:net";
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseNetwork } from "../../config/networks.ts";
import { formatAddress } from "../../native/address.ts";
import { NetworkList } from "../../proxy/networks.ts";

const bytes = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
);

const networks = suite("networks");
networks("given any networks and addresses near them, then the answers of node:net", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(bytes, fc.nat(128)), { maxLength: 3 }),
      bytes,
      fc.nat(),
      (given, other, flip) => {
        // One for each family: Node takes an IPv4 address for ::ffff:a.b.c.d as well, which no socket of ours has.
        const node = { ipv4: new BlockList(), ipv6: new BlockList() };
        const parsed = given.map(([address, bits]) => {
          const prefixLength = Math.min(bits, 8 * address.length);
          const cut = address.map((byte, at) => {
            const kept = Math.min(8, Math.max(0, prefixLength - 8 * at));
            return byte & (0xff00 >> kept);
          });
          const text = formatAddress(cut);
          const family = isIPv4(text) ? "ipv4" : "ipv6";
          node[family].addSubnet(text, prefixLength, family);
          return { address: text, prefixLength };
        });
        const list = new NetworkList(parsed);
        const near = given.map(([address]) => {
          const bit = flip % (8 * address.length);
          return address.map((byte, at) => (at === bit >> 3 ? byte ^ (0x80 >> (bit & 7)) : byte));
        });
        for (const address of [other, ...near, ...given.map(([same]) => same)]) {
          if (formatAddress(address).startsWith("::ffff:")) continue;
          const text = formatAddress(address);
          const family = isIPv4(text) ? "ipv4" : "ipv6";
          assert.is(list.has(address), node[family].check(text, family), text);
        }
      },
    ),
    { numRuns: 2_000 },
  );
});

networks("given none, then nobody", () => {
  assert.not(new NetworkList([]).has(Uint8Array.of(10, 0, 0, 1)));
  const parsed = parseNetwork("10.0.0.0/8");
  assert.ok(parsed.ok && new NetworkList([parsed.value]).has(Uint8Array.of(10, 255, 0, 1)));
});
networks.run();
