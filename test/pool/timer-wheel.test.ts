// Goal: timers fire in order, never early, and only the last one set. Method: a wheel against a list, at random times.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { TimerWheel } from "../../pool/timer-wheel.ts";

const CAPACITY = 64;
const BEGIN_MS = 5_000;
/** The wheel itself turns in 1,024 ms: some of these are turns away. */
const deadlines = fc.integer({ min: BEGIN_MS - 100, max: BEGIN_MS + 4_000 });
const sets = fc.array(fc.tuple(fc.integer({ min: 0, max: CAPACITY - 1 }), deadlines), { maxLength: 200 });

const wheel = suite("timer wheel");

wheel("given none, then the next is never", () => {
  const timers = new TimerWheel(CAPACITY, BEGIN_MS);
  assert.is(timers.next, Number.POSITIVE_INFINITY);
  timers.popDue(1e9, () => assert.unreachable());
});

wheel(
  "given any timers set one over the other, then each id fires once, in order, when its last one is due",
  () => {
    fc.assert(
      fc.property(sets, fc.array(fc.integer({ min: 1, max: 2_500 }), { maxLength: 6 }), (set, steps) => {
        const timers = new TimerWheel(CAPACITY, BEGIN_MS);
        const model = new Map<number, number>();
        for (const [id, deadline] of set) {
          timers.set(id, deadline);
          model.set(id, Math.max(deadline, BEGIN_MS));
        }
        let nowMs = BEGIN_MS;
        for (const step of [0, ...steps]) {
          nowMs += step;
          const fired: number[] = [];
          timers.popDue(nowMs, (id) => fired.push(id));
          const due = [...model].filter(([, deadline]) => deadline <= nowMs);
          assert.equal([...fired].sort(), due.map(([id]) => id).sort());
          if (step < 1_024) {
            const times = fired.map((id) => model.get(id)!);
            assert.equal(
              times,
              times.toSorted((a, b) => a - b),
            );
          }
          for (const [id] of due) model.delete(id);
          const earliest = Math.min(...model.values());
          assert.is(timers.next, model.size === 0 ? earliest : Math.min(earliest, nowMs + 1 + 1_024));
        }
      }),
    );
  },
);

wheel("given a cancelled one, then it does not fire and its neighbours do", () => {
  const timers = new TimerWheel(CAPACITY, BEGIN_MS);
  for (const id of [1, 2, 3]) timers.set(id, BEGIN_MS + 10);
  timers.cancel(2);
  timers.cancel(2);
  const fired: number[] = [];
  timers.popDue(BEGIN_MS + 10, (id) => fired.push(id));
  assert.equal(fired.sort(), [1, 3]);
});

wheel("given one that fires and sets another that is due, then that fires too", () => {
  const timers = new TimerWheel(CAPACITY, 1);
  timers.set(1, 10);
  const fired: number[] = [];
  timers.popDue(20, (id) => {
    fired.push(id);
    if (id < 3) timers.set(id + 1, 15);
  });
  assert.equal(fired, [1, 2, 3]);
});

wheel.run();
