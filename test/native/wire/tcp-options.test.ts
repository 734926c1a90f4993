import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import {
  decodeTcpOptions,
  encodeTcpOptions,
  type TcpOptions,
  tcpOptionsLength,
} from "../../../native/wire/tcp-options.ts";
import { tcpOptions, u8 } from "./arbitraries.ts";
import { bytes, SYN_BY_SYSCTL, V4, V6 } from "./captures.ts";

/** Goal: the handshake's options, byte for byte as Linux writes them. Method: captures, tables, properties. */

function encoded(options: TcpOptions): Uint8Array {
  const out = new Uint8Array(40);
  return out.subarray(0, encodeTcpOptions(out, 0, options));
}

const kernel = suite("tcp options: as the kernel writes them");

for (const { sysctl, options, packet } of SYN_BY_SYSCTL) {
  const onWire = packet.slice(40);
  kernel(`given a SYN with ${sysctl}, then encoding gives the kernel's own bytes`, () => {
    assert.equal(encoded(options), onWire);
    assert.is(tcpOptionsLength(options), onWire.length);
  });
  kernel(`given a SYN with ${sysctl}, then decoding gives its options`, () => {
    assert.equal(decodeTcpOptions(onWire, 0, onWire.length), options);
  });
}

for (const [name, packet, optionsAt] of [
  ["an IPv4 SYN-ACK", V4.synAck, 40],
  ["an IPv6 SYN-ACK", V6.synAck, 60],
  ["a pure ACK", V4.ack, 40],
  ["an IPv6 FIN", V6.fin, 60],
] as const) {
  kernel(`given ${name}, then decoding and encoding gives the kernel's own bytes`, () => {
    const options = decodeTcpOptions(packet, optionsAt, packet.length);
    assert.ok(options);
    assert.equal(encoded(options), packet.slice(optionsAt));
  });
}

kernel.run();

const decode = suite("tcp options: decode");

for (const [given, hex, want] of [
  ["nothing", "", {}],
  ["NOPs only", "01010101", {}],
  ["the end mark first", "00 020405b4", {}],
  ["garbage behind the end mark", "020405b4 00 ff", { mss: 1460 }],
  ["an MSS", "020405b4", { mss: 1460 }],
  ["the largest MSS", "0204ffff", { mss: 65535 }],
  ["an MSS twice", "020405b4 020400ff", { mss: 255 }],
  ["an MSS of zero", "02040000", undefined],
  ["an MSS too short", "020305", undefined],
  ["an MSS too long", "020505b400", undefined],
  ["a window scale of 14", "03030e", { wscale: 14 }],
  ["a window scale of 15", "03030f", { wscale: 14 }],
  ["a window scale of 255", "0303ff", { wscale: 14 }],
  ["a window scale of the wrong length", "03020101", undefined],
  ["SACK permitted", "0402", { sackPermitted: true }],
  ["SACK permitted of the wrong length", "040300", undefined],
  ["timestamps above 2^31", "080a ffffffff 80000001", { tsval: 0xffffffff, tsecr: 0x80000001 }],
  ["timestamps of the wrong length", "0809 00000000 000000", undefined],
  ["one SACK block", "0101 050a 0000000a 00000014", {}],
  [
    "three SACK blocks and timestamps",
    `0101 080a 00000001 00000002 0101 051a ${"00".repeat(24)}`,
    { tsval: 1, tsecr: 2 },
  ],
  ["SACK blocks that run past the end", "0512 0000000a 00000014", undefined],
  [
    "a fast open cookie between others",
    "0402 220a 0102030405060708 0303 07",
    { sackPermitted: true, wscale: 7 },
  ],
  ["an MD5 signature", `1312 ${"ab".repeat(16)}`, {}],
  ["an experimental option without content", "fd02 020405b4", { mss: 1460 }],
  ["an unknown kind with length 0", "4200", undefined],
  ["an unknown kind with length 1", "4201", undefined],
  ["an unknown kind past the end", "420300", {}],
  ["an unknown kind one byte past the end", "420400", undefined],
  ["a kind without a length", "0101 02", undefined],
] as const) {
  decode(`given ${given}, then ${JSON.stringify(want) ?? "malformed"}`, () => {
    const input = bytes(hex);
    assert.equal(decodeTcpOptions(input, 0, input.length), want);
  });
}

decode("given a range that is none, then malformed", () => {
  const input = bytes("020405b4");
  for (const [start, end] of [
    [0, 5],
    [3, 2],
    [-1, 4],
    [0.5, 4],
    [Number.NaN, 4],
  ] as const) {
    assert.is(decodeTcpOptions(input, start, end), undefined);
  }
});

decode("given any bytes around the range, then they do not matter", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), u8, (options, around) => {
      const padded = new Uint8Array(options.length + 16).fill(around);
      padded.set(options, 8);
      assert.equal(
        decodeTcpOptions(padded, 8, 8 + options.length),
        decodeTcpOptions(options, 0, options.length),
      );
    }),
  );
});

decode("given a SYN's options cut at every length, then never more than the whole has", () => {
  const whole = V4.syn.slice(40);
  const all = decodeTcpOptions(whole, 0, whole.length);
  assert.ok(all);
  const boundaries = new Set([0, 4, 6, 16, 17, 20]);
  for (let end = 0; end <= whole.length; end++) {
    const options = decodeTcpOptions(whole, 0, end);
    assert.is(options !== undefined, boundaries.has(end), `${end} bytes`);
    assert.equal({ ...all, ...options }, all);
  }
});

decode.run();

const encode = suite("tcp options: encode");

encode(
  "given any options and a dirty buffer, then decoding gives them back and no other byte changed",
  () => {
    fc.assert(
      fc.property(tcpOptions, u8, fc.nat(7), (options, dirt, at) => {
        const out = new Uint8Array(40).fill(dirt);
        const length = encodeTcpOptions(out, at, options);
        assert.is(length % 4, 0);
        assert.is(length, tcpOptionsLength(options));
        assert.equal(decodeTcpOptions(out, at, at + length), options);
        assert.equal(out.slice(at, at + length), encoded(options));
        assert.ok(out.every((byte, i) => (i >= at && i < at + length) || byte === dirt));
      }),
    );
  },
);

encode("given tsval alone, then tsecr is 0 as in a SYN", () => {
  assert.equal(encoded({ tsval: 7 }), bytes("0101080a 00000007 00000000"));
});

encode("given sackPermitted false, then nothing is written", () => {
  assert.equal(encoded({ sackPermitted: false }), new Uint8Array(0));
});

for (const options of [
  { mss: 0 },
  { mss: 65536 },
  { mss: -1 },
  { mss: 1.5 },
  { wscale: 15 },
  { wscale: -1 },
  { tsval: 2 ** 32 },
  { tsval: -1 },
  { tsval: Number.NaN },
  { tsval: 1, tsecr: 2 ** 32 },
  { tsecr: 1 },
] as const) {
  encode(`given ${JSON.stringify(options)}, then a RangeError`, () => {
    assert.throws(
      () => encoded(options),
      (error: unknown) => error instanceof RangeError,
    );
  });
}

encode("given too little room, then a RangeError and nothing written", () => {
  const out = new Uint8Array(19);
  const options = SYN_BY_SYSCTL[0].options;
  assert.throws(
    () => encodeTcpOptions(out, 0, options),
    (error: unknown) => error instanceof RangeError,
  );
  assert.throws(
    () => encodeTcpOptions(out, -1, { mss: 1 }),
    (error: unknown) => error instanceof RangeError,
  );
  assert.ok(out.every((byte) => byte === 0));
});

encode.run();
