// Goal: no notice is lost, doubled or overtaken, and a sleeping keeper is woken once. Method: four threads write
// while the reader reads; an eventfd counts wake-ups.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { EventFd } from "../../native/eventfd.ts";
import { PollSet } from "../../native/net/poll-set.ts";
import { NOTICES_MAX } from "../../pool/limits.ts";
import { KeeperSignal } from "../../pool/signal.ts";

const THREADS = 4;
const EACH = 50_000;

const signals = suite("keeper signal");

signals("given none, then there is no notice and nothing was touched", () => {
  const { signal, close } = newSignal();
  assert.is(signal.nextNotice(), -1);
  assert.is(signal.takeTouched(), false);
  close();
});

signals(
  "given four threads that tell of entries, then each entry is read once, a thread's in its order",
  async () => {
    const { buffer, wakeFd, signal, close } = newSignal();
    const loader = import.meta.resolve("tsx/esm/api"); // on Node 20 a worker does not inherit tsx
    const script = new URL("./notice-writer.ts", import.meta.url).href;
    const code = `import("${loader}").then((tsx) => { tsx.register(); return import("${script}"); })`;
    const threads = Array.from({ length: THREADS }, (_, index) => {
      const workerData = { buffer, wakeFd, first: index * EACH, count: EACH };
      return new Worker(code, { eval: true, workerData });
    });
    const ends = Promise.all(threads.map((thread) => once(thread, "exit")));
    const lastOf = new Int32Array(THREADS).fill(-1);
    let left = THREADS * EACH;
    const deadline = Date.now() + 20_000;
    while (left > 0 && Date.now() < deadline) {
      const entry = signal.nextNotice();
      if (entry < 0) {
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      const thread = Math.floor(entry / EACH);
      const before = lastOf[thread]!;
      assert.is(entry % EACH, before + 1);
      lastOf[thread] = before + 1;
      left -= 1;
    }
    await ends;
    assert.is(left, 0);
    assert.is(signal.nextNotice(), -1);
    close();
  },
);

signals(
  "given more notices than anybody may leave unread, then the writer fails instead of losing one",
  () => {
    const { signal, close } = newSignal();
    for (let entry = 0; entry < NOTICES_MAX; entry++) signal.notify(entry & 0xffff);
    assert.throws(() => signal.notify(0), /overflow/);
    close();
  },
);

signals("given a sleeping keeper, then the first touch wakes it and the second costs nothing", () => {
  const { signal, isAwaken, close } = newSignal();
  assert.ok(signal.sleep());
  signal.touch(false);
  assert.ok(isAwaken());
  signal.touch(true);
  assert.not(isAwaken());
  assert.ok(signal.takeTouched());
  close();
});

signals("given a napping keeper, then only what is urgent wakes it", () => {
  const { signal, isAwaken, close } = newSignal();
  signal.nap();
  signal.touch(false);
  assert.not(isAwaken());
  signal.touch(true);
  assert.ok(isAwaken());
  close();
});

signals("given a touch before it sleeps, then it does not", () => {
  const { signal, close } = newSignal();
  signal.touch(false);
  assert.not(signal.sleep());
  close();
});

function newSignal() {
  const wakeUp = new EventFd();
  const poll = new PollSet([wakeUp.fd]);
  const buffer = KeeperSignal.newBuffer();
  const signal = new KeeperSignal(buffer, wakeUp.fd.number);
  const isAwaken = (): boolean => {
    const woken = poll.wait(0) > 0;
    wakeUp.drain();
    return woken;
  };
  const close = (): void => {
    poll.close();
    wakeUp.close();
  };
  return { buffer, wakeFd: wakeUp.fd.number, signal, isAwaken, close };
}

signals.run();
