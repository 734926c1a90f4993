// Goal: integers come out as they went in, across growth at any point of the ring. Method: against an array.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Random } from "../../../bench/lab/random.ts";
import { IntQueue } from "../../../proxy/engine/int-queue.ts";

const queue = suite("int queue");
queue("given pushes and shifts at random, then it is first in, first out", () => {
  const random = new Random(5);
  const ours = new IntQueue();
  const expected: number[] = [];
  for (let step = 0; step < 30_000; step++) {
    if (expected.length === 0 || random.next() < 0.6) {
      ours.push(step - 10_000);
      expected.push(step - 10_000);
    } else {
      assert.is(ours.shift(), expected.shift());
    }
    assert.is(ours.length, expected.length);
  }
  while (expected.length > 0) assert.is(ours.shift(), expected.shift());
});
queue.run();
