// Goal: the benchmarks' command line means one thing or is refused with a reason. Method: a table.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { BENCHMARK_NAMES, parseCommand } from "../../bench/arguments.ts";

const all = [...BENCHMARK_NAMES];

const good = suite("bench arguments");
for (const [line, want] of [
  ["latency", { kind: "run", names: ["latency"], quick: false, json: undefined }],
  ["pool --quick", { kind: "run", names: ["pool"], quick: true, json: undefined }],
  ["--quick rate --json out.json", { kind: "run", names: ["rate"], quick: true, json: "out.json" }],
  ["all", { kind: "run", names: all, quick: false, json: undefined }],
  ["all --quick", { kind: "run", names: all, quick: true, json: undefined }],
  ["report", { kind: "report" }],
  ["--help", { kind: "help" }],
] as const) {
  good(`given "${line}", then ${want.kind}`, () => {
    assert.equal(parseCommand(line.split(" ")), want);
  });
}

const wrong = suite("bench arguments: errors");
for (const [line, problem] of [
  ["", /which benchmark/],
  ["latencies", /no benchmark "latencies"/],
  ["latency rate", /one benchmark at a time, not also rate/],
  ["latency --fast", /--fast/],
  ["latency --json", /--json/],
  ["all --json out.json", /one benchmark, not of all/],
  ["report --quick", /report takes no options/],
  ["report --json out.json", /report takes no options/],
] as const) {
  wrong(`given "${line}", then it says why not`, () => {
    const command = parseCommand(line.split(" ").filter((word) => word !== ""));
    assert.is(command.kind, "wrong");
    assert.match(command.kind === "wrong" ? command.problem : "", problem);
  });
}

good.run();
wrong.run();
