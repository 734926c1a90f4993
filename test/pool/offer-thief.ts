// A thread of pool-block.test.ts: claims offers as fast as it can until told to stop; counts each entry it got.
import { parentPort, workerData } from "node:worker_threads";
import { PoolBlock } from "../../pool/pool-block.ts";

const { max, block, counts, stop } = workerData as Record<"block" | "counts" | "stop", SharedArrayBuffer> & {
  max: number;
};
const offers = new PoolBlock(max, block);
const owned = new Int32Array(counts);
const stopped = new Int32Array(stop);
let claims = 0;
parentPort!.postMessage("running");
while (Atomics.load(stopped, 0) === 0) {
  for (let slot = max - 1; slot >= 0; slot--) {
    const entry = offers.offered(slot);
    if (entry < 0 || !offers.claim(slot, entry)) continue;
    Atomics.add(owned, entry, 1);
    claims += 1;
  }
}
parentPort!.postMessage(claims);
