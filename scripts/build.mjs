// @ts-check
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { root, runMain, runStep, SetupError } from "./child.mjs";

const folders = ["native", "pool", "library", "proxy", "config", "bench"];
const settings = ["package.json", "package-lock.json", "tsconfig.json", "tsconfig.build.json"];
/** What is served or read beside the compiled sources, as it is. */
const assets = ["proxy/admin/page/page.css", "proxy/admin/page/live.js"];
const stamp = join(root, "dist/.built");

/**
 * Compiles the sources to dist/ when one of them, or a folder's list of files, is newer than the last build.
 * tsc itself is incremental (dist/.tsbuildinfo). Throws SetupError (exit 1) with tsc's messages.
 */
export function build() {
  if (isFresh()) return;
  const startedAt = new Date();
  runStep("build", process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"]);
  removeOrphans();
  for (const path of assets) copyFileSync(join(root, path), join(root, "dist", path));
  makeExecutable();
  mkdirSync(join(root, "dist"), { recursive: true });
  writeFileSync(stamp, "");
  utimesSync(stamp, startedAt, startedAt); // what is saved while tsc runs counts as newer
}

function isFresh() {
  const builtAtMs = statSync(stamp, { throwIfNoEntry: false })?.mtimeMs;
  if (builtAtMs === undefined) return false;
  const inputs = settings.map((name) => join(root, name));
  for (const folder of folders) {
    const path = join(root, folder);
    if (existsSync(path)) inputs.push(path, ...tree(path));
  }
  return inputs.every((path) => statSync(path).mtimeMs < builtAtMs);
}

/** What remains in dist/ of a source that was removed or renamed: it would still be importable and packed. */
function removeOrphans() {
  for (const folder of folders) {
    const out = join(root, "dist", folder);
    if (!existsSync(out)) continue;
    for (const path of tree(out)) {
      const name = path.slice(out.length).replace(/(\.d\.ts|\.js\.map|\.js)$/, "");
      if (name !== path.slice(out.length) && !existsSync(join(root, folder, `${name}.ts`))) rmSync(path);
    }
  }
}

function makeExecutable() {
  const { bin } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  for (const path of /** @type {string[]} */ (Object.values(bin))) {
    if (!existsSync(join(root, path))) {
      throw new SetupError(`build: package.json names ${path} as a command, but its source is missing`, 1);
    }
    chmodSync(join(root, path), 0o755);
  }
}

/**
 * Every file and folder below a folder, as full paths.
 *
 * @param {string} folder
 */
function tree(folder) {
  return readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name)));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await runMain(() => {
    build();
    return 0;
  });
}
