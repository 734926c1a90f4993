// @ts-check
// Preloaded into a program under test: at SIGWINCH the main thread says on stderr what keeps its loop alive.
import { isMainThread } from "node:worker_threads";

if (isMainThread) {
  process.on("SIGWINCH", () => {
    /** @type {Record<string, number>} */
    const counts = {};
    for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
    process.stderr.write(`resources ${JSON.stringify(counts)}\n`);
  });
}
