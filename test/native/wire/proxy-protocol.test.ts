import fc from "fast-check";
import { V1ProxyProtocol, V2ProxyProtocol } from "proxy-protocol-js";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { formatAddress, parseAddress } from "../../../native/address.ts";
import {
  type AcceptedVersions,
  decodeProxyHeader,
  encodeProxyHeader,
  PROXY_HEADER_MAX,
  type ProxiedConnection,
  type ProxyHeader,
  translateProxyHeader,
} from "../../../native/wire/proxy-protocol.ts";
import { ipv4Bytes, ipv6Bytes, u16 } from "./arbitraries.ts";

/**
 * Goal: the headers of the specification, both ways; whatever arrives, an answer and no crash.
 * Method: known bytes, round trips, another implementation (proxy-protocol-js), truncation at every length, and
 * 100,000 random headers, most of them one change away from a right one.
 */

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (char) => char.charCodeAt(0));
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
const ip = (text: string): Uint8Array => parseAddress(text)!;

const SIGNATURE = "0d0a0d0a000d0a515549540a";
const V4: ProxiedConnection = {
  source: { address: ip("192.0.2.7"), port: 40_000 },
  destination: { address: ip("10.0.0.1"), port: 443 },
};
const V6: ProxiedConnection = {
  source: { address: ip("2001:db8::7"), port: 1 },
  destination: { address: ip("::1"), port: 65_535 },
};
const V4_LINE = "PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n";
const V4_BLOCK = hex(`${SIGNATURE} 21 11 000c c0000207 0a000001 9c40 01bb`);
const V6_LINE = "PROXY TCP6 2001:db8::7 ::1 1 65535\r\n";
const V6_BLOCK = hex(
  `${SIGNATURE} 21 21 0024 20010db8000000000000000000000007 00000000000000000000000000000001 0001 ffff`,
);
/** As HAProxy 2.6 sends it with proxy-v2-options crc32c,unique-id: a checksum, then a unique id. */
const TLVS = hex(`${SIGNATURE} 21 11 001a c0000207 0a000001 9c40 01bb 03 0004 00000000 05 0004 61626364`);

const connection: fc.Arbitrary<ProxiedConnection> = fc.oneof(ipv4Bytes, ipv6Bytes).chain((address) =>
  fc.tuple(address.length === 4 ? ipv4Bytes : ipv6Bytes, u16, u16).map(([other, sport, dport]) => ({
    source: { address, port: sport },
    destination: { address: other, port: dport },
  })),
);

function header(bytes: Uint8Array, accept: AcceptedVersions = "any"): ProxyHeader {
  const decoded = decodeProxyHeader(bytes, accept);
  if (decoded.kind !== "header") throw new Error(JSON.stringify(decoded));
  return decoded.header;
}

/** The header with the checksum that RFC 3720 defines, bit by bit: a second reading of it. */
function withChecksum(bytes: Uint8Array, at: number): Uint8Array {
  const out = bytes.slice().fill(0, at, at + 4);
  let crc = 0xffff_ffff;
  for (const byte of out) {
    for (let bit = 0; bit < 8; bit++) {
      const isSet = ((crc ^ (byte >> bit)) & 1) === 1;
      crc = isSet ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
    }
  }
  new DataView(out.buffer).setUint32(at, ~crc >>> 0);
  return out;
}

const known = suite("PROXY protocol: known headers");

for (const [name, bytes, want] of [
  ["v1 over IPv4", ascii(V4_LINE), V4],
  ["v1 over IPv6", ascii(V6_LINE), V6],
  ["v2 over IPv4", V4_BLOCK, V4],
  ["v2 over IPv6", V6_BLOCK, V6],
] as const) {
  known(`given ${name}, then both ends are read and written`, () => {
    const decoded = header(Uint8Array.of(...bytes, ...ascii("GET /")));
    assert.is(decoded.kind, "proxied");
    assert.equal(decoded.connection, want);
    assert.equal(decoded.bytes, bytes);
    assert.equal(encodeProxyHeader(decoded.version, want), bytes);
  });
}

for (const [name, bytes, kind] of [
  ["v1 UNKNOWN", ascii("PROXY UNKNOWN\r\n"), "unknown"],
  ["v1 UNKNOWN with addresses to be ignored", ascii("PROXY UNKNOWN ffff::1 who cares 0\r\n"), "unknown"],
  ["v2 LOCAL", hex(`${SIGNATURE} 20 00 0000`), "local"],
  ["v2 LOCAL with bytes to be ignored", hex(`${SIGNATURE} 20 11 0003 ffffff`), "local"],
  ["v2 of an unspecified family", hex(`${SIGNATURE} 21 00 0000`), "unknown"],
  ["v2 of UDP", hex(`${SIGNATURE} 21 12 000c c0000207 0a000001 9c40 01bb`), "unknown"],
  ["v2 of a unix socket", hex(`${SIGNATURE} 21 31 00d8 ${"61".repeat(216)}`), "unknown"],
] as const) {
  known(`given ${name}, then the client's addresses are not known`, () => {
    const { kind: found, connection: none, bytes: all } = header(bytes);
    assert.equal([found, none, all], [kind, undefined, bytes]);
  });
}

known("given TLVs, then they go on to a v2 reader as they came, and a v1 reader gets the addresses", () => {
  const whole = withChecksum(TLVS, 31);
  const decoded = header(whole);
  assert.equal(translateProxyHeader(2, decoded), whole);
  assert.equal(translateProxyHeader(1, decoded), ascii(V4_LINE));
  assert.equal(translateProxyHeader(2, header(ascii(V4_LINE))), V4_BLOCK);
});

known("given no addresses, then UNKNOWN and an unspecified family", () => {
  assert.equal(encodeProxyHeader(1, undefined), ascii("PROXY UNKNOWN\r\n"));
  assert.equal(encodeProxyHeader(2, undefined), hex(`${SIGNATURE} 21 00 0000`));
});

known("given ends of two families, then a RangeError", () => {
  const mixed = { source: V4.source, destination: V6.destination };
  for (const version of [1, 2] as const) {
    assert.throws(
      () => encodeProxyHeader(version, mixed),
      (error: unknown) => error instanceof RangeError,
    );
  }
});
known.run();

const refused = suite("PROXY protocol: malformed headers");

for (const [name, bytes, reason] of [
  ["a request", ascii("GET / HTTP/1.1\r\n"), "no PROXY header"],
  ["a word like it", ascii("PROXYTCP4"), "no PROXY header"],
  ["a line that does not end", ascii(`PROXY UNKNOWN ${"x".repeat(107)}`), "a line of more than 107 bytes"],
  ["a bare line feed", ascii("PROXY UNKNOWN\n"), "a line without a carriage return"],
  ["another protocol", ascii("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), "other than TCP4"],
  ["one port", ascii("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), "not two addresses"],
  ["a name", ascii("PROXY TCP4 localhost 1.2.3.4 1 2\r\n"), "none of TCP4"],
  ["the other family", ascii("PROXY TCP4 ::1 ::1 1 2\r\n"), "none of TCP4"],
  ["a port too large", ascii("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"), "none of TCP4"],
  ["a padded port", ascii("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"), "none of TCP4"],
  ["two spaces", ascii("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"), "not two addresses"],
  ["version 3", hex(`${SIGNATURE} 31 11 000c c0000207 0a000001 9c40 01bb`), "version 3"],
  ["command 2", hex(`${SIGNATURE} 22 11 000c c0000207 0a000001 9c40 01bb`), "command 2"],
  ["family 4", hex(`${SIGNATURE} 21 41 0000`), "address family"],
  ["too few bytes", hex(`${SIGNATURE} 21 21 000c c0000207 0a000001 9c40 01bb`), "no room"],
  ["more than is read", hex(`${SIGNATURE} 21 11 ffff`), "a header of 65551 bytes"],
  ["a TLV too long", hex(`${SIGNATURE} 21 11 0010 c0000207 0a000001 9c40 01bb 05 0002 61`), "does not end"],
  [
    "a TLV cut in its length",
    hex(`${SIGNATURE} 21 11 000e c0000207 0a000001 9c40 01bb 05 00`),
    "does not end",
  ],
  ["a wrong checksum", TLVS, "a wrong checksum"],
] as const) {
  refused(`given ${name}, then ${reason}`, () => {
    const decoded = decodeProxyHeader(bytes, "any");
    assert.is(decoded.kind, "malformed");
    if (decoded.kind === "malformed") assert.ok(decoded.reason.includes(reason), decoded.reason);
  });
}

refused("given the version that is not accepted, then it is none", () => {
  assert.equal(decodeProxyHeader(V4_BLOCK, "v1"), { kind: "malformed", reason: "no PROXY header of v1" });
  assert.equal(decodeProxyHeader(ascii(V4_LINE), "v2"), {
    kind: "malformed",
    reason: "no PROXY header of v2",
  });
});

for (const [name, bytes] of [
  ["v1", ascii(V6_LINE)],
  ["v2", V6_BLOCK],
  ["v2 with TLVs", withChecksum(TLVS, 31)],
] as const) {
  refused(`given ${name} cut at any byte, then incomplete`, () => {
    for (let length = 0; length < bytes.length; length++) {
      assert.equal(decodeProxyHeader(bytes.subarray(0, length), "any"), { kind: "incomplete" });
    }
  });
}
refused.run();

const properties = suite("PROXY protocol: properties");

properties("given any connection, then what is written is read again, by others too", () => {
  fc.assert(
    fc.property(connection, (given) => {
      for (const version of [1, 2] as const) {
        const bytes = encodeProxyHeader(version, given);
        assert.equal(header(bytes).connection, given);
        assert.is(header(bytes, version === 1 ? "v1" : "v2").bytes.length, bytes.length);
      }
      const { source, destination } = V1ProxyProtocol.parse(
        String.fromCharCode(...encodeProxyHeader(1, given)),
      )!;
      for (const [peer, end] of [
        [source, given.source],
        [destination, given.destination],
      ] as const) {
        assert.equal([peer.ipAddress, peer.port], [formatAddress(end.address), end.port]);
      }
      const block = encodeProxyHeader(2, given);
      assert.equal(new Uint8Array(V2ProxyProtocol.parse(block)!.build()), block);
    }),
  );
});

properties("given 100,000 random headers, then an answer to each, and what is accepted is sound", () => {
  const right = [ascii(V4_LINE), ascii(V6_LINE), V4_BLOCK, V6_BLOCK, TLVS, withChecksum(TLVS, 31)];
  const change = fc.record({ at: fc.nat(), byte: fc.nat(255) });
  const random = fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }) },
    {
      weight: 1,
      arbitrary: fc.uint8Array({ maxLength: 300 }).map((tail) => Uint8Array.of(...hex(SIGNATURE), ...tail)),
    },
    { weight: 1, arbitrary: fc.string({ maxLength: 120 }).map((text) => ascii(`PROXY ${text}\r\n`)) },
    {
      weight: 3,
      arbitrary: fc
        .tuple(fc.constantFrom(...right), fc.array(change, { minLength: 1, maxLength: 3 }))
        .map(([bytes, changes]) => {
          const out = bytes.slice();
          for (const { at, byte } of changes) out[at % out.length] = byte;
          return out;
        }),
    },
  );
  let accepted = 0;
  fc.assert(
    fc.property(random, fc.constantFrom("any", "v1", "v2"), (bytes, accept) => {
      const decoded = decodeProxyHeader(bytes, accept);
      if (decoded.kind !== "header") return;
      accepted += 1;
      const { header: found } = decoded;
      assert.ok(found.bytes.length <= PROXY_HEADER_MAX);
      assert.equal(found.bytes, bytes.slice(0, found.bytes.length));
      assert.is(found.connection === undefined, found.kind !== "proxied");
      for (const version of [1, 2] as const) {
        const again = header(translateProxyHeader(version, found));
        assert.equal(again.connection, found.connection);
      }
    }),
    { numRuns: 100_000 },
  );
  assert.ok(accepted > 1_000, `${accepted} accepted`);
});
properties.run();
