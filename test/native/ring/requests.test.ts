// Goal: the request table finds, parks and reuses entries without mixing them up.
// Method: random operations (a fixed generator) beside a model of maps and arrays.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { CANCELLED, PARKED, PATIENT, RECV, RequestTable, SEND } from "../../../native/ring/requests.ts";

const table = suite("ring: request table");

table("given 200,000 random operations, then it agrees with the model", () => {
  const requests = new RequestTable(1);
  const open = new Map<number, { slot: number; tag: number; fd: number; kind: number }>();
  const parked: number[] = [];
  let seed = 1;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >>> 8) % n;
  };
  for (let step = 0; step < 200_000; step++) {
    const action = random(10);
    if (action < 5 && open.size < 3000) {
      const request = {
        slot: random(500),
        tag: random(4) - 2,
        fd: random(1000),
        kind: random(2) ? RECV : SEND,
      };
      const index = requests.open(request.kind, request.fd, request.slot, request.tag);
      assert.is(open.has(index), false, "an index in use is not given out");
      assert.is(requests.has(index, CANCELLED | PATIENT | PARKED), false);
      open.set(index, request);
      if (random(4) === 0) {
        requests.park(index);
        parked.push(index);
      }
    } else if (action < 7) {
      const index = requests.unpark();
      assert.is(index, parked.shift() ?? -1);
      if (index >= 0) assert.is(requests.has(index, PARKED), false);
    } else {
      const index = open.keys().next().value;
      if (index === undefined || parked.includes(index)) continue;
      const { slot, tag, fd, kind } = open.get(index)!;
      assert.equal(
        [requests.slotOf(index), requests.tagOf(index), requests.fdOf(index), requests.kindOf(index)],
        [slot, tag, fd, kind],
      );
      const found = open.get(requests.find(slot, tag));
      assert.equal([found?.slot, found?.tag], [slot, tag]);
      requests.close(index);
      open.delete(index);
    }
    if (requests.inProgress !== open.size || requests.parked !== parked.length) assert.unreachable("counts");
  }
});

table("given two requests of one name, then find gives the newest and after it the other", () => {
  const requests = new RequestTable(4);
  const first = requests.open(RECV, 5, 1, 1);
  const second = requests.open(SEND, 6, 1, 1);
  assert.is(requests.find(1, 1), second);
  requests.close(second);
  assert.is(requests.find(1, 1), first);
  requests.close(first);
  assert.is(requests.find(1, 1), -1);
});

table("given marks, then they are the entry's own and gone when it is used again", () => {
  const requests = new RequestTable(2);
  const a = requests.open(RECV, 1, 1, 1);
  const b = requests.open(RECV, 2, 2, 2);
  requests.mark(a, CANCELLED);
  requests.mark(a, PATIENT);
  assert.equal(
    [requests.has(a, CANCELLED), requests.has(a, PATIENT), requests.has(b, CANCELLED)],
    [true, true, false],
  );
  requests.close(a);
  assert.is(requests.has(requests.open(RECV, 3, 3, 3), CANCELLED | PATIENT), false);
});
table.run();
