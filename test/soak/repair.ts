/**
 * Checkpoints for long: 200 connections stream both ways over the lab at full speed, and one end of all is frozen,
 * dumped, closed and restored 20 times at random moments. Prints what the link saw; exit 1 when a byte was lost,
 * doubled or altered, or when a reset, a FIN, or a clock or window edge that went back was on the wire.
 *
 *   npm run soak -- repair [CONNECTIONS] [CHECKPOINTS]
 */
import { streamThroughCheckpoints } from "../e2e/repair-streams.ts";

const [connections = "200", checkpoints = "20"] = process.argv.slice(2);
const result = await streamThroughCheckpoints(Number(connections), Number(checkpoints));
const { pausesMs, unfinished, guardLeft, resets = 0, fins = 0, clocksBack = 0, edgesBack = 0 } = result;
console.log(`${result.segments} segments, ${(result.bytes / 2 ** 20).toFixed(0)} MiB`);
console.log(`pauses of all connections, ms: ${pausesMs.map((ms) => ms.toFixed(0)).join(" ")}`);
const problems = { unfinished, guardLeft, resets, fins, clocksBack, edgesBack };
console.log(problems);
process.exitCode = Object.values(problems).every((count) => count === 0) ? 0 : 1;
