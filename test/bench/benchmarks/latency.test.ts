// Goal: a full run of latency covers what it promises, a quick one is a part of it. Method: the list of cases.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { latencyCases } from "../../../bench/benchmarks/latency.ts";

const cases = suite("latency cases");
cases("given a full run, then every distance, size, pattern and loss with each other, once", () => {
  const full = latencyCases(false).map(({ rttMs, sizeBytes, loss, pattern }) =>
    [rttMs, sizeBytes, loss, pattern].join(" "),
  );
  for (const rttMs of [1, 10, 40, 100, 200]) {
    for (const sizeBytes of [1_000, 100_000]) {
      for (const loss of [0, 0.01]) {
        for (const pattern of ["steady", "burst"]) {
          assert.ok(full.includes([rttMs, sizeBytes, loss, pattern].join(" ")));
        }
      }
    }
  }
  assert.is(full.filter((one) => one.includes("pause")).length, 1);
  assert.is(new Set(full).size, full.length);
});
cases("given a quick run, then every distance, and a part of the full one", () => {
  const quick = latencyCases(true);
  const full = latencyCases(false).map((one) => Object.entries(one).sort().join());
  assert.equal([...new Set(quick.map(({ rttMs }) => rttMs))], [1, 10, 40, 100, 200]);
  for (const one of quick) assert.ok(full.includes(Object.entries(one).sort().join()), JSON.stringify(one));
});
cases.run();
