// A thread of signal.test.ts: tells of its entries, one after the other.
import { parentPort, workerData } from "node:worker_threads";
import { KeeperSignal } from "../../pool/signal.ts";

const { buffer, wakeFd, first, count } = workerData as {
  buffer: SharedArrayBuffer;
  wakeFd: number;
  first: number;
  count: number;
};
const signal = new KeeperSignal(buffer, wakeFd);
for (let entry = first; entry < first + count; entry++) {
  signal.notify(entry);
  signal.touch(false);
}
parentPort!.postMessage("told");
