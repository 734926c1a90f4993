// A thread of gate.test.ts: enters and leaves, sleeping while it waits; counts how many are inside at a time.
import { parentPort, workerData } from "node:worker_threads";
import { EventFd } from "../../native/eventfd.ts";
import { PollSet } from "../../native/net/poll-set.ts";
import { Gate, type GateShare } from "../../pool/gate.ts";

const { share, thread, inside, rounds } = workerData as {
  share: GateShare;
  thread: number;
  inside: SharedArrayBuffer;
  rounds: number;
};
const NOW = 0;
const MOST = 1;
const counts = new Int32Array(inside);
const wakeUp = new EventFd();
const poll = new PollSet([wakeUp.fd]);
const gate = new Gate(share, thread);
new Int32Array(share.wakeFds)[thread] = wakeUp.fd.number;
parentPort!.once("message", () => {
  let waits = 0;
  for (let round = 0; round < rounds; round++) {
    if (!gate.enter()) {
      waits += 1;
      do {
        poll.wait(60_000);
        wakeUp.drain();
      } while (!gate.redeem());
    }
    const now = Atomics.add(counts, NOW, 1) + 1;
    for (let most = Atomics.load(counts, MOST); now > most; most = Atomics.load(counts, MOST)) {
      Atomics.compareExchange(counts, MOST, most, now);
    }
    if ((round & 7) === 0) poll.wait(0.1); // others run while we are inside
    Atomics.sub(counts, NOW, 1);
    gate.leave();
  }
  parentPort!.postMessage(waits);
});
parentPort!.postMessage("ready");
