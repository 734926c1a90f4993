/**
 * The library for long: fresh requests within 1 round trip + 1.5 ms, over TLS 2 + 3 ms, where undici's own connector
 * takes one more; and a server that forgets its half-opens a hundred times, right before they are used, by GET and
 * POST over plain TCP and TLS. Prints a line per ten rounds; exit 1 when a request failed or was not processed exactly
 * once, or when hardly any connection had been forgotten.
 *
 *   npm run soak -- library [ROUNDS]
 */
import { setTimeout as sleep } from "node:timers/promises";
import { LibraryWorld, RTT_MS } from "../e2e/library-world.ts";

const ROUNDS = Number(process.argv[2] ?? 100);
const FORGOTTEN_A_ROUND = 10;
const SAMPLES = 101;

const world = await LibraryWorld.create();
const problems: string[] = [];
for (const [scheme, limitMs] of [
  ["http", RTT_MS + 1.5],
  ["https", 2 * RTT_MS + 3],
] as const) {
  const { ours, theirs } = await world.medians(scheme, SAMPLES);
  console.log(`${scheme}: ${ours.toFixed(2)} ms, without ${theirs.toFixed(2)} ms`);
  if (ours > limitMs) problems.push(`${scheme}: ${ours} ms, more than ${limitMs}`);
}
for (let round = 1; round <= ROUNDS; round++) {
  await sleep(Math.random() * 800); // another phase of the refreshes
  problems.push(...(await world.forgetAndAsk()));
  if (round % 10 === 0) console.log(`${round} rounds, ${problems.length} problems`);
}
const { hits, replays } = await world.requests([]);
await world.close();
if (replays < FORGOTTEN_A_ROUND * ROUNDS) problems.push(`only ${replays} connections had been forgotten`);
for (const problem of problems) console.log(`PROBLEM ${problem}`);
console.log(`${hits} leases, ${replays} forgotten, ${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;
