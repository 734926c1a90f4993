// Goal: timers fire in order and never early. Method: a heap against a sorted list, with random times.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { TimerHeap } from "../../pool/timer-heap.ts";

const heap = suite("timer heap");

heap("given none, then the next is never", () => {
  const timers = new TimerHeap();
  assert.is(timers.next, Number.POSITIVE_INFINITY);
  timers.popDue(1e9, () => assert.unreachable());
});

heap("given any timers, then those due fire in order and the others stay", () => {
  const timesAndNow = fc.tuple(
    fc.array(fc.integer({ min: 0, max: 1_000 })),
    fc.integer({ min: 0, max: 1_000 }),
  );
  fc.assert(
    fc.property(timesAndNow, ([times, now]) => {
      const timers = new TimerHeap();
      for (const [id, time] of times.entries()) timers.push(time, id);
      const fired: number[] = [];
      timers.popDue(now, (id, deadline) => {
        assert.is(times[id], deadline);
        fired.push(deadline);
      });
      const due = times.filter((time) => time <= now).sort((a, b) => a - b);
      assert.equal(fired, due);
      const left = times.filter((time) => time > now);
      assert.is(timers.next, left.length === 0 ? Number.POSITIVE_INFINITY : Math.min(...left));
    }),
  );
});

heap("given one that fires and sets another that is due, then that fires too", () => {
  const timers = new TimerHeap();
  timers.push(10, 1);
  const fired: number[] = [];
  timers.popDue(20, (id) => {
    fired.push(id);
    if (id < 3) timers.push(15, id + 1);
  });
  assert.equal(fired, [1, 2, 3]);
});

heap.run();
