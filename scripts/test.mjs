// @ts-check
import { runForeground, runMain } from "./child.mjs";
import { setUp } from "./setup.mjs";

// The build is the first row of the test run itself: when it fails, it counts there.
await runMain(() => {
  setUp("test", { build: false });
  return runForeground(process.execPath, [
    "--import",
    "./scripts/typescript.mjs",
    "test/run.ts",
    ...process.argv.slice(2),
  ]);
});
