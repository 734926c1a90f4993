// @ts-check
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "./build.mjs";
import { root, runMain, runStep, SetupError } from "./child.mjs";
import { ensureTools } from "./tools.mjs";

/**
 * Makes a fresh machine ready for a purpose: the right Node, the npm packages of package-lock.json, the system
 * tools, and the build. What is there already is left alone, so that a second run does nothing and needs no
 * network. Progress goes to stderr, a line per step. Throws SetupError: exit 2 with what the user has to do,
 * exit 1 with the output of the step that failed.
 *
 * @param {import("./tools.mjs").Purpose} purpose
 * @param {{ build: boolean }} options whether to compile to dist/ as well
 */
export function setUp(purpose, options) {
  checkPlatform();
  ensureTools(purpose);
  // knip asks for Node 20.19, the product only for 20: npm shall warn about that, not refuse.
  if (!isInstalled()) runStep("npm ci", "npm", ["ci", "--no-audit", "--no-fund", "--engine-strict=false"]);
  if (options.build) build();
}

function checkPlatform() {
  if (process.platform !== "linux") {
    throw new SetupError(`set-up: accelproxy needs Linux (TCP_REPAIR); this is ${process.platform}`, 2);
  }
  const major = Number(process.versions.node.split(".")[0]);
  if (major < 20) {
    throw new SetupError(
      `set-up: accelproxy needs Node 20 or newer; this is ${process.version} (see https://nodejs.org/download)`,
      2,
    );
  }
}

/**
 * @typedef {{ version?: string, integrity?: string, optional?: boolean, os?: string[], cpu?: string[],
 *   libc?: string[] }} LockedPackage
 */

/**
 * Whether node_modules holds what package-lock.json asks for. npm leaves its own lock file in node_modules as
 * the last step of an installation, so an interrupted one does not count. Builds for other machines are listed
 * in package-lock.json only.
 */
function isInstalled() {
  const wanted = readLock(join(root, "package-lock.json"));
  if (wanted === undefined) throw new SetupError("set-up: package-lock.json is missing or broken", 1);
  const present = readLock(join(root, "node_modules/.package-lock.json"));
  if (present === undefined) return false;
  return Object.entries(wanted).every(([path, locked]) => {
    if (path === "") return true;
    const found = present[path];
    if (found === undefined) return locked.optional === true && !isForThisMachine(locked);
    return found.version === locked.version && found.integrity === locked.integrity;
  });
}

/**
 * @param {string} path
 * @returns {Record<string, LockedPackage> | undefined} the packages of a lock file
 */
function readLock(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8")).packages;
  } catch {
    return undefined;
  }
}

/**
 * Whether an optional package is a build for this processor. Where a build exists per C library, only npm knows
 * which one is meant, so those count as for others; so does what the builds for others depend on.
 *
 * @param {LockedPackage} locked
 */
function isForThisMachine({ os, cpu, libc }) {
  if (os === undefined || cpu === undefined || libc !== undefined) return false;
  return os.includes(process.platform) && cpu.includes(process.arch);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await runMain(() => {
    const [purpose] = process.argv.slice(2);
    if (purpose !== "test" && purpose !== "demo" && purpose !== "bench") {
      console.error("usage: node scripts/setup.mjs (test | demo | bench)");
      return 2;
    }
    setUp(purpose, { build: true });
    return 0;
  });
}
