import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { decodeIpv4, encodeIpv4, type Ipv4Fields, verifyIpv4Checksum } from "../../../native/wire/ipv4.ts";
import { ipv4Bytes, u8, u16 } from "./arbitraries.ts";
import { bytes, V4 } from "./captures.ts";

/** Goal: the IPv4 header. Method: captures and the classic example, broken headers, properties. */

const isRangeError = (error: unknown) => error instanceof RangeError;

const SRC = Uint8Array.of(192, 0, 2, 1);
const DST = Uint8Array.of(192, 0, 2, 7);
const FIELDS: Ipv4Fields = { src: SRC, dst: DST, ttl: 64, id: 0x300f };

/** The captured SYN with some bytes of its header replaced. */
function changed(at: number, ...values: readonly number[]): Uint8Array {
  const packet = V4.syn.slice();
  packet.set(values, at);
  return packet;
}

const known = suite("ipv4: known headers");

known("given a captured SYN, then every field is read", () => {
  assert.equal(decodeIpv4(V4.syn, 0, V4.syn.length), {
    ...{
      src: SRC,
      dst: DST,
      ttl: 64,
      id: 0x300f,
      tos: 0,
      df: true,
      mf: false,
      fragmentOffset: 0,
      protocol: 6,
    },
    ...{ payloadStart: 20, payloadEnd: 60 },
  });
});

known("given the fields of a captured SYN, then encoding gives its bytes, checksum included", () => {
  const out = new Uint8Array(20).fill(0xa5);
  assert.is(encodeIpv4(out, 0, FIELDS, 6, 40), 20);
  assert.equal(out, V4.syn.slice(0, 20));
});

known("given another protocol, a TOS and no DF, then they are written and read", () => {
  const out = new Uint8Array(20);
  encodeIpv4(out, 0, { src: SRC, dst: DST, ttl: 1, tos: 0xb8, df: false }, 17, 0);
  const header = decodeIpv4(out, 0, 20);
  assert.ok(header);
  assert.equal([header.protocol, header.ttl, header.tos, header.df, header.id], [17, 1, 0xb8, false, 0]);
});

known("given header options, then the payload starts behind them", () => {
  const packet = bytes("46000018 00010000 40060000 c0000201 c0000207 01010100");
  const header = decodeIpv4(packet, 0, packet.length);
  assert.equal([header?.payloadStart, header?.payloadEnd], [24, 24]);
});

known("given a fragment, then its place is read in bytes", () => {
  const middle = decodeIpv4(changed(6, 0x20, 0xb9), 0, 60);
  assert.equal([middle?.df, middle?.mf, middle?.fragmentOffset], [false, true, 1480]);
  const last = decodeIpv4(changed(6, 0x1f, 0xff), 0, 60);
  assert.equal([last?.mf, last?.fragmentOffset], [false, 65528]);
});

known("given link padding behind the packet, then the payload ends before it", () => {
  const padded = new Uint8Array(70);
  padded.set(V4.syn);
  assert.is(decodeIpv4(padded, 0, 70)?.payloadEnd, 60);
});

known("given a buffer that changes afterwards, then the addresses stay", () => {
  const packet = V4.syn.slice();
  const header = decodeIpv4(packet, 0, packet.length);
  packet.fill(0);
  assert.equal(header?.src, SRC);
});

known("given a right and a wrong checksum, then they are told apart", () => {
  assert.is(verifyIpv4Checksum(V4.syn, 0, 20), true);
  assert.is(verifyIpv4Checksum(changed(8, 63), 0, 20), false);
  assert.is(verifyIpv4Checksum(bytes("45000073 00004000 4011b861 c0a80001 c0a800c7"), 0, 20), true);
  assert.is(verifyIpv4Checksum(V4.syn, 0, 19), false);
  assert.is(verifyIpv4Checksum(V4.syn, 50, 70), false);
});

known.run();

const malformed = suite("ipv4: malformed headers");

for (const [given, packet] of [
  ["nothing", new Uint8Array(0)],
  ["version 6", changed(0, 0x65)],
  ["version 5", changed(0, 0x55)],
  ["a header length of 4 words", changed(0, 0x44)],
  ["a header longer than the packet", changed(0, 0x4f, 0, 0, 59)],
  ["a total length below the header's", changed(2, 0, 19)],
  ["a total length past the bytes present", changed(2, 0, 61)],
] as const) {
  malformed(`given ${given}, then undefined`, () => {
    assert.is(decodeIpv4(packet, 0, packet.length), undefined);
  });
}

malformed("given a packet cut at every length, then undefined", () => {
  for (let end = 0; end < V4.request.length; end++) assert.is(decodeIpv4(V4.request, 0, end), undefined);
  assert.ok(decodeIpv4(V4.request, 0, V4.request.length));
});

malformed("given a range that is none, then undefined", () => {
  for (const [start, end] of [
    [0, 61],
    [60, 0],
    [-1, 60],
    [0, 60.5],
    [Number.NaN, 60],
  ] as const) {
    assert.is(decodeIpv4(V4.syn, start, end), undefined);
  }
});

malformed.run();

const encode = suite("ipv4: encode");

const fields: fc.Arbitrary<Required<Ipv4Fields>> = fc.record({
  src: ipv4Bytes,
  dst: ipv4Bytes,
  ttl: u8,
  id: u16,
  tos: u8,
  df: fc.boolean(),
});

encode("given any fields and a dirty buffer, then decoding gives them back and no other byte changed", () => {
  fc.assert(
    fc.property(fields, u8, fc.nat(100), u8, fc.nat(9), (given, protocol, payloadLength, dirt, at) => {
      const out = new Uint8Array(at + 20 + payloadLength + 9).fill(dirt);
      assert.is(encodeIpv4(out, at, given, protocol, payloadLength), 20);
      assert.equal(decodeIpv4(out, at, out.length), {
        ...given,
        ...{ protocol, mf: false, fragmentOffset: 0 },
        ...{ payloadStart: at + 20, payloadEnd: at + 20 + payloadLength },
      });
      assert.is(verifyIpv4Checksum(out, at, at + 20), true);
      assert.ok(out.every((byte, i) => (i >= at && i < at + 20) || byte === dirt));
    }),
  );
});

for (const [name, change, protocol, payloadLength] of [
  ["a source of 16 bytes", { src: new Uint8Array(16) }, 6, 20],
  ["a destination of 3 bytes", { dst: new Uint8Array(3) }, 6, 20],
  ["a TTL of 256", { ttl: 256 }, 6, 20],
  ["an id of 65536", { id: 65536 }, 6, 20],
  ["a TOS of -1", { tos: -1 }, 6, 20],
  ["a protocol of 256", {}, 256, 20],
  ["a payload of 65516 bytes", {}, 6, 65516],
  ["a payload of -1 bytes", {}, 6, -1],
] as const) {
  encode(`given ${name}, then a RangeError`, () => {
    const out = new Uint8Array(40);
    assert.throws(() => encodeIpv4(out, 0, { ...FIELDS, ...change }, protocol, payloadLength), isRangeError);
  });
}

encode("given 19 bytes of room, then a RangeError", () => {
  assert.throws(() => encodeIpv4(new Uint8Array(20), 1, FIELDS, 6, 0), isRangeError);
});

encode.run();
