// @ts-check
import { spawn, spawnSync } from "node:child_process";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

/** The folder that holds package.json, with a slash at the end. Every command of these scripts runs there. */
export const root = fileURLToPath(new URL("../", import.meta.url));

/** A problem whose message is all the user needs: no stack is printed, and the process exits with `exitCode`. */
export class SetupError extends Error {
  /**
   * @param {string} message
   * @param {number} exitCode 1: a step failed; 2: this machine lacks something the user has to provide
   */
  constructor(message, exitCode) {
    super(message);
    this.name = "SetupError";
    this.exitCode = exitCode;
  }
}

/**
 * Runs one step of the set-up without a terminal: a line with its name and duration, and what it printed only
 * when it failed. Throws SetupError (exit 1) then.
 *
 * @param {string} name what the line says
 * @param {string} command
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} [env] added to the environment
 */
export function runStep(name, command, args, env = {}) {
  const startedAtMs = performance.now();
  const result = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 64 << 20,
  });
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1);
  if (result.status === 0) {
    console.error(`set-up: ${name}: done in ${seconds} s`);
    return;
  }
  const why =
    result.error?.message ?? (result.signal ? `ended by ${result.signal}` : `exit ${result.status}`);
  const output = `${result.stdout ?? ""}${result.stderr ?? ""}`.trimEnd();
  throw new SetupError(`${output}\nset-up: ${name}: failed after ${seconds} s (${why})`.trimStart(), 1);
}

/**
 * Runs a command in our place: our terminal, the signals we are sent, and its exit code as ours.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @returns {Promise<number>} the exit code, 128 + n after signal n
 */
export function runForeground(command, args) {
  const child = spawn(command, args, { cwd: root, stdio: "inherit" });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"])) {
    process.on(signal, () => child.kill(signal));
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}

/**
 * Runs a script's main function and turns its outcome into the exit code.
 *
 * @param {() => number | Promise<number>} main
 */
export async function runMain(main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(error.message);
    process.exitCode = error.exitCode;
  }
}
