/**
 * 1 GiB each way through one session, and 2,000 short sessions at once, compared by SHA-256; the proxy's resident
 * memory before and after. Exit 1 when bytes differ, a session fails or memory grew by more than 64 MiB.
 *
 *   npm run soak -- bytes
 */
import { createBytesWorld, residentBytes, thereAndBack } from "../e2e/bytes-cases.ts";

const MIB = 1 << 20;
const GROWTH_MAX = 64 * MIB;
const SESSIONS = 2_000;

const bytesWorld = await createBytesWorld();
const { client, proxy, world } = bytesWorld;
const mib = (bytes: number): string => (bytes / MIB).toFixed(0);

await thereAndBack(bytesWorld, 64 * MIB); // so that everything is loaded and warm
const before = residentBytes(bytesWorld);
const tookMs = await thereAndBack(bytesWorld, 1024 * MIB);
const after = residentBytes(bytesWorld);
console.log(`1 GiB each way in ${(tookMs / 1e3).toFixed(1)} s; resident ${mib(before)} → ${mib(after)} MiB`);

const startedMs = performance.now();
const port = proxy.port("echo");
const problems = await client.exchanges({
  host: "127.0.0.1",
  port,
  count: SESSIONS,
  bytesMax: 60_000,
  seed: 5,
});
const took = ((performance.now() - startedMs) / 1e3).toFixed(1);
console.log(`${SESSIONS} sessions at once in ${took} s, ${problems.length} failed`);
for (const problem of new Set(problems)) console.log(`  ${problem}`);
console.log(JSON.stringify((await proxy.status()).pools[0]));
const grown = Math.max(after, residentBytes(bytesWorld)) - before;
await world.close();
process.exitCode = problems.length === 0 && grown <= GROWTH_MAX ? 0 : 1;
console.log(
  process.exitCode === 0 ? "no problem" : `PROBLEM: ${problems.length} failed, ${mib(grown)} MiB more`,
);
