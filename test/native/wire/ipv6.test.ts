import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeIpv6, encodeIpv6, type Ipv6Fields } from "../../../native/wire/ipv6.ts";
import { ipv6Bytes, u8 } from "./arbitraries.ts";
import { bytes, V6 } from "./captures.ts";

/** Goal: the IPv6 header and the way past extension headers. Method: captures, tables of chains, properties. */

const isRangeError = (error: unknown) => error instanceof RangeError;

const SRC = bytes("20010db8 00000000 00000000 00000001");
const DST = bytes("20010db8 00000000 00000000 00000007");
const FIELDS: Ipv6Fields = { src: SRC, dst: DST, ttl: 64, flowLabel: 0xcea31 };

/** A packet whose first next header is `nextHeader`, and `rest` behind the fixed header. */
function chain(nextHeader: number, rest: Uint8Array): Uint8Array {
  const packet = new Uint8Array(40 + rest.length);
  encodeIpv6(packet, 0, FIELDS, rest.length);
  packet[6] = nextHeader;
  packet.set(rest, 40);
  return packet;
}

const known = suite("ipv6: known headers");

known("given a captured SYN, then every field is read", () => {
  assert.equal(decodeIpv6(V6.syn, 0, V6.syn.length), {
    ...{ src: SRC, dst: DST, ttl: 64, flowLabel: 0xcea31, trafficClass: 0 },
    ...{ payloadStart: 40, payloadEnd: 80 },
  });
});

known("given the fields of a captured SYN, then encoding gives its bytes", () => {
  const out = new Uint8Array(40).fill(0xa5);
  assert.is(encodeIpv6(out, 0, FIELDS, 40), 40);
  assert.equal(out, V6.syn.slice(0, 40));
});

known("given link padding behind the packet, then the payload ends before it", () => {
  const padded = new Uint8Array(90);
  padded.set(V6.syn);
  assert.is(decodeIpv6(padded, 0, 90)?.payloadEnd, 80);
});

known("given a buffer that changes afterwards, then the addresses stay", () => {
  const packet = V6.syn.slice();
  const header = decodeIpv6(packet, 0, packet.length);
  packet.fill(0);
  assert.equal(header?.dst, DST);
});

known.run();

const extensions = suite("ipv6: extension headers");

// Each: next header, length in units of 8 without the first, 6 bytes; the segment is 20 bytes of "ee".
const TCP = "ee".repeat(20);
for (const [given, nextHeader, hex, want] of [
  ["hop-by-hop options", 0, `0600 010400000000 ${TCP}`, 48],
  ["hop-by-hop options of 16 bytes", 0, `0601 010c00000000 0000000000000000 ${TCP}`, 56],
  ["destination options", 60, `0600 010400000000 ${TCP}`, 48],
  ["a routing header at its end", 43, `0600 040000000000 ${TCP}`, 48],
  [
    "hop-by-hop, routing, then destination options",
    0,
    `2b00 010400000000 3c00 040000000000 0600 010400000000 ${TCP}`,
    64,
  ],
  ["a routing header with a segment left", 43, `0600 040100000000 ${TCP}`, undefined],
  ["hop-by-hop options that are not the first", 60, `0000 010400000000 0600 010400000000 ${TCP}`, undefined],
  ["a fragment", 44, `0600 000100000001 ${TCP}`, undefined],
  ["a first fragment that is the only one", 44, `0600 000000000001 ${TCP}`, undefined],
  ["an authentication header", 51, `0604 000000000000 ${TCP}`, undefined],
  ["encryption", 50, `0600 000000000000 ${TCP}`, undefined],
  ["no next header", 59, TCP, undefined],
  ["UDP", 17, TCP, undefined],
  ["UDP behind destination options", 60, `1100 010400000000 ${TCP}`, undefined],
  ["an unknown header", 253, `0600 010400000000 ${TCP}`, undefined],
  ["an extension header that ends with the packet", 60, "0600 010400000000", 48],
  ["an extension header longer than the packet", 60, "0601 010400000000", undefined],
  ["an extension header cut in its first 8 bytes", 60, "0600 0104000000", undefined],
  ["the longest extension header in a short packet", 60, `06ff 010400000000 ${TCP}`, undefined],
  ["nothing behind the fixed header but a promise", 60, "", undefined],
] as const) {
  extensions(`given ${given}, then ${want === undefined ? "refused" : `the segment at ${want}`}`, () => {
    const packet = chain(nextHeader, bytes(hex));
    assert.is(decodeIpv6(packet, 0, packet.length)?.payloadStart, want);
  });
}

extensions(
  "given an extension header that reaches past the payload length, then the padding is not taken",
  () => {
    const packet = chain(60, bytes(`0600 010400000000 ${TCP}`));
    packet.set([0, 7], 4);
    assert.is(decodeIpv6(packet, 0, packet.length), undefined);
  },
);

extensions.run();

const malformed = suite("ipv6: malformed headers");

for (const [given, at, values] of [
  ["version 4", 0, [0x40]],
  ["version 7", 0, [0x70]],
  ["version 14", 0, [0xe0]],
  ["a payload length past the bytes present", 4, [0, 41]],
  ["the largest payload length", 4, [0xff, 0xff]],
] as const) {
  malformed(`given ${given}, then undefined`, () => {
    const packet = V6.syn.slice();
    packet.set(values, at);
    assert.is(decodeIpv6(packet, 0, packet.length), undefined);
  });
}

malformed("given a packet cut at every length, then undefined", () => {
  for (let end = 0; end < V6.request.length; end++) assert.is(decodeIpv6(V6.request, 0, end), undefined);
  assert.ok(decodeIpv6(V6.request, 0, V6.request.length));
});

malformed("given a range that is none, then undefined", () => {
  for (const [start, end] of [
    [0, 81],
    [80, 0],
    [-1, 80],
    [0, 80.5],
    [Number.NaN, 80],
  ] as const) {
    assert.is(decodeIpv6(V6.syn, start, end), undefined);
  }
});

malformed.run();

const encode = suite("ipv6: encode");

const fields: fc.Arbitrary<Required<Ipv6Fields>> = fc.record({
  src: ipv6Bytes,
  dst: ipv6Bytes,
  ttl: u8,
  flowLabel: fc.integer({ min: 0, max: 0xfffff }),
  trafficClass: u8,
});

encode("given any fields and a dirty buffer, then decoding gives them back and no other byte changed", () => {
  fc.assert(
    fc.property(fields, fc.nat(100), u8, fc.nat(9), (given, payloadLength, dirt, at) => {
      const out = new Uint8Array(at + 40 + payloadLength + 9).fill(dirt);
      assert.is(encodeIpv6(out, at, given, payloadLength), 40);
      const want = { ...given, payloadStart: at + 40, payloadEnd: at + 40 + payloadLength };
      assert.equal(decodeIpv6(out, at, out.length), want);
      assert.ok(out.every((byte, i) => (i >= at && i < at + 40) || byte === dirt));
    }),
  );
});

for (const [name, change, payloadLength] of [
  ["a source of 4 bytes", { src: new Uint8Array(4) }, 20],
  ["a destination of 17 bytes", { dst: new Uint8Array(17) }, 20],
  ["a hop limit of 256", { ttl: 256 }, 20],
  ["a flow label of 21 bits", { flowLabel: 0x100000 }, 20],
  ["a traffic class of 256", { trafficClass: 256 }, 20],
  ["a payload of 65536 bytes", {}, 65536],
] as const) {
  encode(`given ${name}, then a RangeError`, () => {
    const out = new Uint8Array(80);
    assert.throws(() => encodeIpv6(out, 0, { ...FIELDS, ...change }, payloadLength), isRangeError);
  });
}

encode("given 39 bytes of room, then a RangeError", () => {
  assert.throws(() => encodeIpv6(new Uint8Array(40), 1, FIELDS, 0), isRangeError);
});

encode.run();
