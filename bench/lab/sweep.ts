import { readdirSync, statSync } from "node:fs";

const PASSES_MAX = 1000;
const PAUSE_MS = 1;

/**
 * Kills every process in the network namespaces with these inode numbers, whoever started it, and waits until
 * they are gone: a process may start another while this looks, so it looks until it finds none.
 */
export function killProcessesIn(namespaces: ReadonlySet<number>): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let pass = 0; pass < PASSES_MAX; pass++) {
    const pids = processesIn(namespaces);
    if (pids.length === 0) return;
    for (const pid of pids) kill(pid);
    Atomics.wait(pause, 0, 0, PAUSE_MS);
  }
}

/** The processes whose main thread is in one of the namespaces, except this one. Zombies are in none. */
export function processesIn(namespaces: ReadonlySet<number>): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && namespaces.has(namespaceOf(pid)));
}

/** 0 for a process that is gone or someone else's. */
function namespaceOf(pid: number): number {
  try {
    return statSync(`/proc/${pid}/ns/net`).ino;
  } catch {
    return 0;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself since it was found.
  }
}
