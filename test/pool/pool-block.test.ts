// Goal: an offered entry is claimed once, whoever tries. Method: eight threads and the keeper's own withdrawals race
// for 10^5 offers; each entry's claims are counted. What is ready is the number of offers at any time: a keeper that was
// late once said 1,145 where there were none, so that nobody woke it.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BLOCK, type BlockField, PoolBlock } from "../../pool/pool-block.ts";

const OFFERS = 100_000;
const THREADS = 8;
const SLOTS = 8;

const block = suite("pool block");

block("given an offer, then it is there until one claim", () => {
  const offers = new PoolBlock(2);
  assert.equal([offers.offered(0), offers.offered(1)], [-1, -1]);
  offers.offer(1, 0);
  assert.is(offers.offered(1), 0);
  assert.is(offers.get("ready"), 1);
  assert.is(offers.claim(1, 5), false);
  assert.is(offers.get("ready"), 1);
  assert.is(offers.claim(1, 0), true);
  assert.is(offers.claim(1, 0), false);
  assert.is(offers.offered(1), -1);
  assert.is(offers.get("ready"), 0);
});

block("given every field, then each has a place of its own and a view on another thread sees it", () => {
  const offers = new PoolBlock(3);
  const other = new PoolBlock(3, offers.buffer);
  const fields = Object.keys(BLOCK) as BlockField[];
  for (let slot = 0; slot < 3; slot++) offers.offer(slot, 70 + slot);
  for (const [index, field] of fields.entries()) offers.set(field, index + 1);
  for (const [index, field] of fields.entries()) assert.is(other.get(field), index + 1);
  assert.is(other.add("hits", 3), other.get("hits"));
});

block("given eight threads and 10^5 offers, then every entry is claimed exactly once", async () => {
  const offers = new PoolBlock(SLOTS);
  const counts = new SharedArrayBuffer(OFFERS * 4);
  const stop = new SharedArrayBuffer(4);
  const loader = import.meta.resolve("tsx/esm/api"); // on Node 20 a worker does not inherit tsx
  const script = new URL("./offer-thief.ts", import.meta.url).href;
  const code = `import("${loader}").then((tsx) => { tsx.register(); return import("${script}"); })`;
  const workerData = { max: SLOTS, block: offers.buffer, counts, stop };
  const threads = Array.from({ length: THREADS }, () => new Worker(code, { eval: true, workerData }));
  await Promise.all(threads.map((thread) => once(thread, "message")));

  const withdrawn = new Int32Array(OFFERS);
  let own = 0;
  for (let entry = 0; entry < OFFERS; ) {
    for (let slot = 0; slot < SLOTS && entry < OFFERS; slot++) {
      const there = offers.offered(slot);
      if (there === -1) {
        offers.offer(slot, entry);
        entry += 1;
      } else if ((entry & 7) === 0 && offers.claim(slot, there)) {
        withdrawn[there]! += 1;
        own += 1;
      }
    }
  }
  while (Array.from({ length: SLOTS }, (_, slot) => offers.offered(slot)).some((entry) => entry >= 0));
  const ends = Promise.all(threads.map((thread) => once(thread, "message")));
  Atomics.store(new Int32Array(stop), 0, 1);
  const claims = (await ends).map(([count]) => count as number);
  await Promise.all(threads.map((thread) => thread.terminate()));
  assert.is(offers.get("ready"), 0);
  const claimed = new Int32Array(counts);
  const wrong = claimed.findIndex((count, entry) => count + withdrawn[entry]! !== 1);
  assert.is(
    wrong,
    -1,
    `entry ${wrong} was claimed ${claimed[wrong]} times and withdrawn ${withdrawn[wrong]} times`,
  );
  assert.is(
    claims.reduce((sum, count) => sum + count, own),
    OFFERS,
  );
  assert.ok(claims.filter((count) => count > 0).length > 1, "one thread took everything: no race");
});

block.run();
