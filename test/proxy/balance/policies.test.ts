// Goal: each policy gives every server its part, and passes over those that may not serve.
// Method: tables of servers, and choices in a row with what each leaves behind.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Candidates, candidates, chooseBy } from "../../../proxy/balance/policies.ts";

/** Servers with these weights, sessions and permissions. */
function servers(weights: number[], active: number[] = [], mayServe: number[] = []): Candidates {
  const columns = candidates(weights);
  columns.active.set(active);
  columns.mayServe.set(mayServe);
  return columns;
}

const turns = suite("policies: round-robin");
for (const [given, weights, mayServe, want] of [
  ["equal weights, then each in turn", [1, 1, 1], [], "012012"],
  ["weights 5, 1, 1, then the heavy one's turns are spread", [5, 1, 1], [], "0010200"],
  ["one that may not serve, then the others share", [1, 1, 1], [1, 0, 1], "0202"],
  ["one server, then always that one", [7], [], "000"],
] as const) {
  turns(`given ${given}`, () => {
    const columns = servers([...weights], [], [...mayServe]);
    const chosen = Array.from(want, () => chooseBy("round-robin", columns, 0, 0));
    assert.is(chosen.join(""), want);
  });
}
turns("given none that may serve, then -1 and no credit", () => {
  const columns = servers([1, 2], [], [0, 0]);
  assert.is(chooseBy("round-robin", columns, 0, 0), -1);
  assert.equal([...columns.credits], [0, 0]);
});
turns.run();

const least = suite("policies: least-connections");
for (const [given, weights, active, mayServe, want] of [
  ["equal weights, then the one with fewest", [1, 1, 1], [3, 1, 2], [], 1],
  ["weights, then the least for its weight", [4, 1], [3, 1], [], 0],
  ["weights, then one more session counts", [2, 1], [1, 0], [], 0],
  ["the least may not serve, then the next", [1, 1, 1], [3, 1, 2], [1, 0, 1], 2],
  ["none that may serve, then none", [1, 1], [0, 0], [0, 0], -1],
] as const) {
  least(`given ${given}`, () => {
    const columns = servers([...weights], [...active], [...mayServe]);
    assert.is(chooseBy("least-connections", columns, 0, 0), want);
  });
}
least("given sessions that stay, then weights 3, 2, 1 hold 30, 20, 10 of 60", () => {
  const columns = servers([3, 2, 1]);
  for (let count = 0; count < 60; count++) {
    columns.mayServe.fill(1);
    columns.active[chooseBy("least-connections", columns, 0, 0)]! += 1;
  }
  assert.equal([...columns.active], [30, 20, 10]);
});
least("given idle servers, then they take turns", () => {
  const columns = servers([1, 1, 1]);
  const chosen = [0, 1, 2, 3].map(() => {
    columns.mayServe.fill(1);
    return chooseBy("least-connections", columns, 0, 0);
  });
  assert.equal(chosen, [0, 1, 2, 0]);
});
least.run();

const random = suite("policies: random");
for (const [given, weights, active, mayServe, draws, want] of [
  ["both draws, then the less loaded", [1, 1, 1], [5, 0, 3], [], [0, 0.9], 2],
  ["the first drawn less loaded, then that", [1, 1, 1], [1, 0, 3], [], [0, 0.9], 0],
  ["equals, then the first drawn", [1, 1, 1], [0, 0, 0], [], [0.4, 0], 1],
  ["weights, then the first is drawn by them", [1, 8, 1], [0, 0, 0], [], [0.15, 0], 1],
  ["the second draw, then never the first again", [1, 8, 1], [9, 70, 0], [], [0.5, 0.99], 2],
  ["one that may serve, then that", [1, 1], [9, 0], [1, 0], [0.99, 0.99], 0],
  ["none that may serve, then none", [1, 1], [0, 0], [0, 0], [0.5, 0.5], -1],
] as const) {
  random(`given ${given}`, () => {
    const columns = servers([...weights], [...active], [...mayServe]);
    assert.is(chooseBy("random", columns, draws[0], draws[1]), want);
  });
}
random("given equal load for their weights, then each is chosen by its weight", () => {
  const counts = [0, 0, 0];
  for (let at = 0; at < 100; at++)
    counts[chooseBy("random", servers([3, 1, 1], [2, 0, 0]), at / 100, 0)]! += 1;
  assert.equal(counts, [60, 20, 20]);
});
random.run();
