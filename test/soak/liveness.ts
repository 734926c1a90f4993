// npm run soak -- liveness [MINUTES]: pools left idle and used at random moments, two minutes unless told, half of
// them on a clean path, half with 1 % loss and 10 ms jitter. Exit 1 when a client saw an error, an entry was
// tainted on the clean path, or replays are 0.1 % of the leases or more.
import { type Liveness, LivenessWorld } from "../e2e/liveness-run.ts";

const minutes = Number(process.argv[2] ?? 2);
if (!(minutes > 0)) throw new Error("usage: npm run soak -- liveness [MINUTES]");

const failures: string[] = [];

function report(path: string, found: readonly Liveness[]): void {
  console.table(
    found.map(({ retries, uses, errors, firstByteMs, refreshed, pool }) => {
      const sorted = [...firstByteMs].sort((a, b) => a - b);
      const at = (share: number) => Number(sorted[Math.floor((sorted.length - 1) * share)]?.toFixed(1));
      const { hits, misses, replays, tainted, vanished } = pool;
      const times = { p50Ms: at(0.5), p99Ms: at(0.99) };
      return {
        path,
        retries,
        uses,
        errors: errors.length,
        hits,
        misses,
        replays,
        refreshed,
        tainted,
        vanished,
        ...times,
      };
    }),
  );
  for (const { retries, errors, pool } of found) {
    const server = `${path}, tcp_synack_retries=${retries}`;
    if (errors.length > 0)
      failures.push(`${server}: ${errors.length} errors (${[...new Set(errors)].join(", ")})`);
    if (pool.replays >= 0.001 * pool.hits && pool.replays > 0)
      failures.push(`${server}: ${pool.replays} replays`);
    if (path === "clean" && pool.tainted > 0) failures.push(`${server}: ${pool.tainted} entries tainted`);
  }
}

await using world = await LivenessWorld.create();
const durationMs = minutes * 30_000;
report("clean", await world.run({ durationMs, gapMsMax: 2_000 }));
report("lossy", await world.run({ durationMs, gapMsMax: 400, link: { loss: 0.01, jitterMs: 10, seed: 9 } }));
for (const failure of failures) console.error(failure);
process.exitCode = failures.length > 0 ? 1 : 0;
