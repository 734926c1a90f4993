// @ts-check
import { runForeground, runMain } from "./child.mjs";
import { setUp } from "./setup.mjs";

await runMain(() => {
  setUp("bench", { build: true });
  return runForeground(process.execPath, ["dist/bench/bench.js", ...process.argv.slice(2)]);
});
