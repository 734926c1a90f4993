// @ts-check
import { runForeground, runMain } from "./child.mjs";
import { setUp } from "./setup.mjs";

await runMain(() => {
  setUp("demo", { build: true });
  return runForeground(process.execPath, ["dist/bench/demo.js", ...process.argv.slice(2)]);
});
