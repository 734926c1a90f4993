import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { checksum, pseudoHeaderSum, sumBytes } from "../../../native/wire/checksum.ts";
import { bytes, V4, V6 } from "./captures.ts";

/** Goal: the Internet checksum. Method: the RFC's example, captures, and a naive implementation. */

const known = suite("checksum: known values");

known("given the example of RFC 1071 section 3, then its sum is ddf2", () => {
  const example = bytes("0001 f203 f4f5 f6f7");
  assert.is(sumBytes(example, 0, 8), 0xddf2);
  assert.is(checksum(example, 0, 8), 0x220d);
});

known("given an odd length, then the last byte is padded with zero on the right", () => {
  assert.is(sumBytes(bytes("0001 f2"), 0, 3), 0xf201);
});

known("given nothing, then the sum is the initial one", () => {
  assert.is(sumBytes(new Uint8Array(0), 0, 0), 0);
  assert.is(sumBytes(new Uint8Array(0), 0, 0, 0xabcd), 0xabcd);
});

known("given the longest range full of ones, then no carry is lost", () => {
  const ones = new Uint8Array(131070).fill(0xff);
  assert.is(sumBytes(ones, 0, ones.length, 0xffff), 0xffff);
  assert.is(checksum(ones, 0, ones.length), 0);
});

known("given a captured IPv4 header, then it sums to ffff", () => {
  assert.is(sumBytes(V4.syn, 0, 20), 0xffff);
});

known("given captured segments behind their pseudo headers, then they sum to ffff", () => {
  for (const packet of Object.values(V4)) {
    const pseudo = pseudoHeaderSum(packet, 12, 4, 6, packet.length - 20);
    assert.is(sumBytes(packet, 20, packet.length, pseudo), 0xffff);
  }
  for (const packet of Object.values(V6)) {
    const pseudo = pseudoHeaderSum(packet, 8, 16, 6, packet.length - 40);
    assert.is(sumBytes(packet, 40, packet.length, pseudo), 0xffff);
  }
});

for (const [given, call] of [
  ["an end past the buffer", () => sumBytes(new Uint8Array(4), 0, 5)],
  ["an end before the start", () => sumBytes(new Uint8Array(4), 3, 2)],
  ["a negative start", () => sumBytes(new Uint8Array(4), -1, 2)],
  ["a fraction", () => sumBytes(new Uint8Array(4), 0.5, 2)],
  ["a range that could lose a carry", () => sumBytes(new Uint8Array(131072), 0, 131072)],
  ["an initial sum that was not folded", () => sumBytes(new Uint8Array(4), 0, 4, 0x10000)],
  ["addresses past the buffer", () => pseudoHeaderSum(new Uint8Array(19), 12, 4, 6, 20)],
  ["a segment of 64 KiB", () => pseudoHeaderSum(new Uint8Array(20), 12, 4, 6, 0x10000)],
] as const) {
  known(`given ${given}, then a RangeError`, () => {
    assert.throws(call, (error: unknown) => error instanceof RangeError);
  });
}

known.run();

const properties = suite("checksum: for any bytes");

/** Word by word with the carry put back at once. */
function naiveSum(data: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) {
    sum += data[at]! * 256 + (data[at + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

const data = fc.uint8Array({ maxLength: 300 });

properties("given a range anywhere in a buffer, then only its own bytes count", () => {
  fc.assert(
    fc.property(data, data, data, (before, middle, after) => {
      const all = Uint8Array.from([...before, ...middle, ...after]);
      assert.is(sumBytes(all, before.length, before.length + middle.length), naiveSum(middle));
    }),
  );
});

properties("given a cut at an even place, then chaining gives the sum of the whole", () => {
  fc.assert(
    fc.property(data, fc.nat(150), (whole, half) => {
      const cut = Math.min(half, whole.length >> 1) * 2;
      const first = sumBytes(whole, 0, cut);
      assert.is(sumBytes(whole, cut, whole.length, first), sumBytes(whole, 0, whole.length));
    }),
  );
});

properties("given the checksum behind the data, then the whole sums to ffff", () => {
  fc.assert(
    fc.property(data, (content) => {
      const even = content.length + (content.length & 1);
      const whole = new Uint8Array(even + 2);
      whole.set(content);
      const check = checksum(content, 0, content.length);
      whole.set([check >> 8, check & 0xff], even);
      assert.is(sumBytes(whole, 0, whole.length), 0xffff);
    }),
  );
});

properties.run();
