// Goal: a limit that threads share is never exceeded, all who wait for it get in, in turn, and nobody has to look again
// by himself. Method: one thread with two gates on the same words, then eight threads that enter and leave as fast
// as they can and sleep in poll() while they wait: a lost wake-up leaves one asleep for ever.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EventFd } from "../../native/eventfd.ts";
import { PollSet } from "../../native/net/poll-set.ts";
import { Gate, type GateShare } from "../../pool/gate.ts";

const THREADS = 8;
const ROUNDS = 2_000;
const LIMIT = 3;

interface Context {
  wakers: [EventFd, EventFd];
  share: (limit: number, cost?: number) => GateShare;
}

const isAwake = ({ fd }: EventFd): boolean => {
  const poll = new PollSet([fd]);
  const woken = poll.wait(0);
  poll.close();
  return Boolean(woken);
};

const gates = suite<Context>("gate");
gates.before.each((context) => {
  context.wakers = [new EventFd(), new EventFd()];
  const wakeFds = new SharedArrayBuffer(8);
  new Int32Array(wakeFds).set(context.wakers.map(({ fd }) => fd.number));
  context.share = (limit, cost) => Gate.create(wakeFds, limit, cost);
});
gates.after.each(({ wakers }) => {
  for (const waker of wakers) waker.close();
});

gates("given room, then one enters, and none above the limit", ({ share }) => {
  const gate = new Gate(share(2), 0);
  assert.equal([gate.enter(), gate.enter(), gate.enter()], [true, true, false]);
  assert.is(gate.inside, 2);
});

gates("given a full gate, then who leaves lets in the thread whose turn it is", ({ share, wakers }) => {
  const words = share(1);
  const [a, b] = [new Gate(words, 0), new Gate(words, 1)];
  assert.ok(a.enter());
  assert.not(a.enter());
  assert.not(b.enter());
  const order: string[] = [];
  for (const _ of [0, 1]) {
    a.leave();
    for (const [name, gate] of Object.entries({ a, b })) if (gate.redeem()) order.push(name);
    assert.is(a.inside, 1);
  }
  assert.equal(order.toSorted(), ["a", "b"]);
  assert.ok(wakers.every(isAwake));
});

gates("given others in line, then nobody passes them", ({ share }) => {
  const words = share(1);
  const [a, b] = [new Gate(words, 0), new Gate(words, 1)];
  assert.ok(a.enter());
  assert.not(b.enter());
  a.leave();
  assert.not(a.enter());
  assert.ok(b.redeem());
});

gates("given a higher limit, then those in line enter", ({ share }) => {
  const gate = new Gate(share(0), 0);
  assert.not(gate.enter());
  gate.limit = 1;
  assert.ok(gate.redeem());
});

gates("given one in line that goes, then the next who leaves lets in another", ({ share }) => {
  const words = share(1);
  const [a, b] = [new Gate(words, 0), new Gate(words, 1)];
  assert.ok(a.enter());
  assert.not(b.enter());
  assert.not(a.enter());
  assert.ok(b.abandon());
  a.leave();
  assert.ok(a.redeem());
  assert.not(b.redeem());
});

gates("given one that goes when it was let in, then it is told that it is inside", ({ share }) => {
  const gate = new Gate(share(1), 0);
  gate.enter();
  gate.enter();
  gate.leave();
  assert.not(gate.abandon());
  assert.is(gate.inside, 1);
});

gates("given a thread that listens, then the next who leaves wakes it, once", ({ share, wakers }) => {
  const words = share(10);
  const [a, b] = [new Gate(words, 0), new Gate(words, 1)];
  assert.not(a.listen(), "nobody is inside");
  assert.ok(b.enter());
  assert.ok(b.enter());
  assert.ok(a.listen());
  assert.not(isAwake(wakers[0]));
  b.leave();
  assert.ok(isAwake(wakers[0]));
  assert.not(a.redeem());
  wakers[0].drain();
  b.leave();
  assert.not(isAwake(wakers[0]));
});

gates("given borrowed units, then they are a third at most and others have the rest", ({ share }) => {
  const gate = new Gate(share(12, 2), 0);
  assert.equal(
    [1, 2, 3, 4, 5].map(() => gate.borrow()),
    [true, true, true, true, false],
  );
  assert.is(gate.inside, 0);
  assert.equal([gate.enter(), gate.enter(), gate.enter(), gate.enter()], [true, true, true, true]);
  assert.ok(gate.isScarce);
  assert.not(gate.enter());
  gate.giveBack();
  assert.not(gate.redeem());
  gate.giveBack();
  assert.ok(gate.redeem());
  assert.is(gate.inside, 5);
});

gates(`given ${THREADS} threads and room for ${LIMIT}, then the limit holds and all get in`, async () => {
  const wakeFds = new SharedArrayBuffer(4 * THREADS);
  const inside = new SharedArrayBuffer(8);
  const share = Gate.create(wakeFds, LIMIT);
  const script = new URL("./gate-crowd.ts", import.meta.url).href;
  const code = `import("${import.meta.resolve("tsx/esm/api")}").then((tsx) => { tsx.register(); return import("${script}"); })`;
  const threads = Array.from({ length: THREADS }, (_, thread) => {
    const workerData = { share, thread, inside, rounds: ROUNDS, limit: LIMIT };
    return new Worker(code, { eval: true, workerData });
  });
  await Promise.all(threads.map((thread) => once(thread, "message")));
  for (const thread of threads) thread.postMessage("go");
  const ends = (await Promise.all(threads.map((thread) => once(thread, "message")))).map(([end]) => end);
  await Promise.all(threads.map((thread) => thread.terminate()));
  const [now, most] = new Int32Array(inside);
  assert.is(now, 0);
  assert.ok(most! <= LIMIT, `${most} inside at a time`);
  assert.is(most, LIMIT);
  assert.is(new Gate(share).inside, 0);
  const waits = ends as number[];
  assert.ok(
    waits.every((count) => count > 0),
    `waits: ${waits}`,
  );
});

gates.run();
