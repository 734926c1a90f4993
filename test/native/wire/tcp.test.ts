import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  ACK,
  decodeTcp,
  encodeTcp,
  FIN,
  PSH,
  RST,
  SYN,
  type TcpSegment,
  tcpLength,
} from "../../../native/wire/tcp.ts";
import { payload, tcpSegment, u8 } from "./arbitraries.ts";
import { bytes, V4, V6 } from "./captures.ts";

/** Goal: the TCP header and where its payload lies. Method: captures, a table of broken headers, properties. */

const isRangeError = (error: unknown) => error instanceof RangeError;

const SEGMENT: TcpSegment = {
  sport: 59310,
  dport: 8080,
  seq: 0x06cbbac4,
  ack: 0xf904acb6,
  flags: PSH | ACK,
  window: 63,
  options: { tsval: 0x1d2d66c3, tsecr: 0x66045c54 },
};

const known = suite("tcp: known segments");

known("given a captured request, then every field is read", () => {
  assert.equal(decodeTcp(V4.request, 20, V4.request.length), {
    ...SEGMENT,
    payloadStart: 52,
    payloadEnd: 70,
  });
});

for (const [name, packet, at, flags] of [
  ["SYN", V4.syn, 20, SYN],
  ["SYN-ACK", V4.synAck, 20, SYN | ACK],
  ["ACK", V4.ack, 20, ACK],
  ["request", V4.request, 20, PSH | ACK],
  ["FIN", V4.fin, 20, FIN | ACK],
  ["IPv6 SYN", V6.syn, 40, SYN],
  ["IPv6 SYN-ACK", V6.synAck, 40, SYN | ACK],
  ["IPv6 response", V6.response, 40, PSH | ACK],
] as const) {
  known(`given a captured ${name}, then decoding and encoding gives its bytes, the checksum aside`, () => {
    const segment = decodeTcp(packet, at, packet.length);
    assert.ok(segment);
    assert.is(segment.flags, flags);
    const content = packet.subarray(segment.payloadStart, segment.payloadEnd);
    const out = new Uint8Array(packet.length - at).fill(0xa5);
    assert.is(encodeTcp(out, 0, segment, content), out.length);
    const want = packet.slice(at);
    want.fill(0, 16, 18);
    assert.equal(out, want);
  });
}

known("given a RST with reserved bits and an urgent pointer, then they are ignored", () => {
  const rst = bytes("1f90e7ae 00000001 00000000 5f040000 0000ffff");
  assert.equal(decodeTcp(rst, 0, 20), {
    ...{ sport: 8080, dport: 59310, seq: 1, ack: 0, flags: RST, window: 0, options: {} },
    ...{ payloadStart: 20, payloadEnd: 20 },
  });
});

known.run();

const malformed = suite("tcp: malformed segments");

for (const [given, hex] of [
  ["nothing", ""],
  ["19 bytes", "1f90e7ae 00000001 00000000 50040000 000000"],
  ["a data offset of 0", "1f90e7ae 00000001 00000000 00040000 00000000"],
  ["a data offset of 4", "1f90e7ae 00000001 00000000 40040000 00000000"],
  ["a data offset past the end", "1f90e7ae 00000001 00000000 60040000 00000000"],
  [
    "the largest data offset in a short segment",
    `1f90e7ae 00000001 00000000 f0040000 00000000 ${"01".repeat(39)}`,
  ],
  [
    "an option that runs into the payload",
    "1f90e7ae 00000001 00000000 60040000 00000000 0101080a 0000000000000000",
  ],
] as const) {
  malformed(`given ${given}, then undefined`, () => {
    const input = bytes(hex);
    assert.is(decodeTcp(input, 0, input.length), undefined);
  });
}

malformed("given a SYN-ACK cut at every length, then undefined", () => {
  for (let end = 0; end < 40; end++) assert.is(decodeTcp(V4.synAck, 20, 20 + end), undefined);
  assert.ok(decodeTcp(V4.synAck, 20, 60));
});

malformed("given a range that is none, then undefined", () => {
  for (const [start, end] of [
    [20, 71],
    [50, 20],
    [-20, 20],
    [0.5, 40],
    [0, Number.NaN],
  ] as const) {
    assert.is(decodeTcp(V4.request, start, end), undefined);
  }
});

malformed.run();

const encode = suite("tcp: encode");

encode("given any segment and a dirty buffer, then decoding gives it back and no other byte changed", () => {
  fc.assert(
    fc.property(tcpSegment, payload, u8, fc.nat(9), (segment, content, dirt, at) => {
      const out = new Uint8Array(at + 60 + content.length + 9).fill(dirt);
      const length = encodeTcp(out, at, segment, content);
      assert.is(length, tcpLength(segment, content));
      const decoded = decodeTcp(out, at, at + length);
      assert.ok(decoded);
      const { payloadStart, payloadEnd, ...fields } = decoded;
      assert.equal(fields, segment);
      assert.equal(out.slice(payloadStart, payloadEnd), content);
      assert.ok(out.every((byte, i) => (i >= at && i < at + length) || byte === dirt));
    }),
  );
});

encode("given a payload that lies in the buffer under the header, then it is sent unchanged", () => {
  const out = Uint8Array.from({ length: 100 }, (_, i) => i);
  const content = out.subarray(4, 44);
  const want = content.slice();
  const length = encodeTcp(out, 0, SEGMENT, content);
  assert.equal(out.slice(32, length), want);
});

for (const [name, change] of [
  ["sport 65536", { sport: 65536 }],
  ["sport -1", { sport: -1 }],
  ["dport 0.5", { dport: 0.5 }],
  ["seq 2^32", { seq: 2 ** 32 }],
  ["seq -1", { seq: -1 }],
  ["ack NaN", { ack: Number.NaN }],
  ["flags 256", { flags: 256 }],
  ["window 65536", { window: 65536 }],
  ["an MSS of 0", { options: { mss: 0 } }],
] as const) {
  encode(`given ${name}, then a RangeError`, () => {
    assert.throws(() => encodeTcp(new Uint8Array(64), 0, { ...SEGMENT, ...change }), isRangeError);
  });
}

encode("given a buffer one byte too small, then a RangeError and nothing written", () => {
  const out = new Uint8Array(tcpLength(SEGMENT, new Uint8Array(10)) - 1);
  assert.throws(() => encodeTcp(out, 0, SEGMENT, new Uint8Array(10)), isRangeError);
  assert.ok(out.every((byte) => byte === 0));
});

encode.run();
