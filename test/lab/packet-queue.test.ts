// Goal: slots leave by time, then by arrival, whatever the order they came in.
// Method: compare with sorting, over random pushes and pops.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { PacketQueue } from "../../bench/lab/packet-queue.ts";
import { PacketStore } from "../../bench/lab/packet-store.ts";

const queue = suite("lab: packet queue");

queue("given an empty queue, then the next packet is never due", () => {
  assert.is(new PacketQueue(1).nextDueMs, Number.POSITIVE_INFINITY);
});

queue("given random pushes and pops, then it agrees with a sorted list", () => {
  const step = fc.record({ dueMs: fc.integer({ min: 0, max: 20 }), inOrder: fc.boolean(), pops: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const subject = new PacketQueue(60);
      const model: { slot: number; dueMs: number }[] = [];
      const pop = (): void => {
        const next = model.reduce((best, entry) => (entry.dueMs < best.dueMs ? entry : best));
        model.splice(model.indexOf(next), 1);
        assert.is(subject.nextDueMs, next.dueMs);
        assert.is(subject.pop(), next.slot);
      };
      for (const [slot, { dueMs, inOrder, pops }] of steps.entries()) {
        subject.push(slot, dueMs, inOrder);
        model.push({ slot, dueMs });
        for (let count = 0; count < pops && model.length > 0; count++) pop();
        assert.is(subject.count, model.length);
      }
      while (model.length > 0) pop();
    }),
    { numRuns: 500 },
  );
});

queue("given more packets than the ring is long, then it goes round", () => {
  const subject = new PacketQueue(4);
  for (let round = 0; round < 100; round++) {
    subject.push(round % 4, round, true);
    if (round >= 3) assert.is(subject.pop(), (round - 3) % 4);
  }
});

const store = suite("lab: packet store");

store("given all slots taken and given back, then each is handed out once and keeps its bytes", () => {
  const subject = new PacketStore(8, 64);
  const slots = Array.from({ length: 8 }, () => subject.take());
  assert.equal([...slots].sort(), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.is(subject.freeCount, 0);
  for (const slot of slots) subject.replace(slot, new Uint8Array(slot + 1).fill(slot));
  for (const slot of slots) assert.equal(subject.packet(slot), new Uint8Array(slot + 1).fill(slot));
  for (const slot of slots) subject.release(slot);
  assert.is(subject.take(), slots.at(-1));
  assert.throws(() => subject.replace(0, new Uint8Array(65)), RangeError);
  subject.close();
});

queue.run();
store.run();
