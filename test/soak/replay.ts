/**
 * Replay for long: 10,000 requests to upstreams that read and end the connection while the lab loses, delays and
 * reorders, and 2,400 to one that keeps forgetting its half-opens. Prints a line per round; exit 1 when a request
 * was seen twice, was replayed although its connection existed, or failed although it could be replayed.
 *
 *   npm run soak -- replay [TRIES]
 */
import { ADVERSE_CASES, ReplayWorld, tally } from "../e2e/replay-cases.ts";

const TRIES = Number(process.argv[2] ?? 10_000);
const CONCURRENCY = 80;
const FORGETTING_ROUNDS = 60;
const BURST = 40;

const replays = await ReplayWorld.create();
const problems: string[] = [];
const problem = (text: string): void => {
  problems.push(text);
  console.log(`PROBLEM ${text}`);
};

const perCase = Math.ceil(TRIES / ADVERSE_CASES.length);
for (const [index, { name }] of ADVERSE_CASES.entries()) {
  const outcomes = await replays.adverse(index, perCase, { concurrency: CONCURRENCY, limitMs: 4_000 });
  const seen = await replays.origin.seen();
  const twice = outcomes.filter(({ id }) => (seen.get(id) ?? 0) > 1);
  const { hits, replays: count } = await replays.pool(`case${index}`);
  console.log(`${name}: ${outcomes.length} tries, ${hits} accelerated, ${tally(outcomes)}`);
  if (twice.length > 0) problem(`${name}: seen twice: ${twice.map(({ id }) => id).join(" ")}`);
  if (count > 0) problem(`${name}: ${count} replays`);
}

for (let round = 0; round < FORGETTING_ROUNDS; round++) {
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 800));
  await replays.forget("counter");
  const outcomes = await replays.requests("counter", BURST);
  const seen = await replays.origin.seen();
  const failed = outcomes.filter(({ id, end }) => end !== "answer" || seen.get(id) !== 1);
  if (failed.length > 0) problem(`after forgetting, round ${round}: ${tally(outcomes)}`);
  await replays.refilled("counter");
}
const { hits, replays: count } = await replays.pool("counter");
console.log(`after forgetting: ${hits} leases, ${count} replayed`);

await replays.world.close();
console.log(problems.length === 0 ? "no problem" : `${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;
