// @ts-check
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { root, runForeground, runMain } from "./child.mjs";
import { setUp } from "./setup.mjs";

const folder = join(root, "test/soak");

await runMain(() => {
  const [name = "", ...rest] = process.argv.slice(2);
  const files = existsSync(folder) ? readdirSync(folder) : [];
  const names = files.filter((file) => file.endsWith(".ts")).map((file) => file.slice(0, -".ts".length));
  if (!names.includes(name)) {
    const known = names.length === 0 ? "there are none yet" : `one of ${names.sort().join(", ")}`;
    console.error(`usage: npm run soak -- NAME (${known})`);
    return 2;
  }
  setUp("soak", { build: true });
  return runForeground(process.execPath, [
    "--import",
    "./scripts/typescript.mjs",
    `test/soak/${name}.ts`,
    ...rest,
  ]);
});
