import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { seqAdd, seqAfter, seqBefore, seqBetween, seqDiff } from "../../../native/wire/seq.ts";
import { u32 } from "./arbitraries.ts";

/** Goal: order and distance survive the wrap at 2^32. Method: tables at the wrap, then properties. */

const wrap = suite("seq: at the wrap");

for (const [a, n, want] of [
  [0xffffffff, 1, 0],
  [0, -1, 0xffffffff],
  [0xfffffff0, 0x20, 0x10],
  [0x7fffffff, 1, 0x80000000],
  [5, 0xffffffff, 4],
] as const) {
  wrap(`given ${a} + ${n}, then ${want}`, () => assert.is(seqAdd(a, n), want));
}

for (const [a, b, want] of [
  [0, 0xffffffff, 1],
  [0xffffffff, 0, -1],
  [0x80000000, 0x7fffffff, 1],
  [0x10, 0xfffffff0, 0x20],
  [0x80000000, 0, -0x80000000],
  [7, 7, 0],
] as const) {
  wrap(`given ${a} - ${b}, then ${want}`, () => assert.is(seqDiff(a, b), want));
}

wrap("given 0xffffffff and 0, then the first is before the second", () => {
  assert.is(seqBefore(0xffffffff, 0), true);
  assert.is(seqAfter(0, 0xffffffff), true);
  assert.is(seqBefore(0, 0xffffffff), false);
  assert.is(seqAfter(0xffffffff, 0), false);
});

for (const [low, x, high, want] of [
  [0xfffffff0, 0xfffffff0, 0x10, true],
  [0xfffffff0, 0, 0x10, true],
  [0xfffffff0, 0x10, 0x10, true],
  [0xfffffff0, 0x11, 0x10, false],
  [0xfffffff0, 0xffffffef, 0x10, false],
  [5, 5, 5, true],
  [5, 6, 5, false],
  [5, 4, 5, false],
  [0, 0x90000000, 0xa0000000, true],
] as const) {
  wrap(`given ${low} <= ${x} <= ${high}, then ${want}`, () => assert.is(seqBetween(low, x, high), want));
}

wrap.run();

const properties = suite("seq: for any numbers");

const near = fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 });

properties("given a step of less than 2^31, then diff gives it back and order follows its sign", () => {
  fc.assert(
    fc.property(u32, near, (a, n) => {
      const b = seqAdd(a, n);
      assert.is(seqDiff(b, a), n);
      assert.is(seqBefore(a, b), n > 0);
      assert.is(seqAfter(a, b), n < 0);
    }),
  );
});

properties("given three numbers, then between is a walk upwards from low, as with bigints", () => {
  fc.assert(
    fc.property(u32, u32, u32, (low, x, high) => {
      const distance = (to: number) => BigInt.asUintN(32, BigInt(to) - BigInt(low));
      assert.is(seqBetween(low, x, high), distance(x) <= distance(high));
    }),
  );
});

properties.run();
