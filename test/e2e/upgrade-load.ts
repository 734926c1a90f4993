/**
 * Clients for the tests of upgrades, run on a host of the lab: long sessions with an echoing server, each asking every
 * few ms and checking every byte that comes back, and new connections at a rate. On its standard input, "mark" has the
 * longest wait counted anew, "end" ends it.
 *
 *   node upgrade-load.ts HOST PORT SESSIONS RATE EVERY_MS
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { randomBytes } from "./random-bytes.ts";

export interface LoadReport {
  /** What went wrong, of either kind of session. */
  readonly failures: readonly string[];
  readonly sessions: number;
  readonly connections: number;
  readonly bytes: number;
  /** Longest wait of each long session for an echo since the mark, ms. */
  readonly longestMs: readonly number[];
}

const [host = "", port = "", sessions = "", rate = "", everyMs = ""] = process.argv.slice(2);
const CHUNK = 700;
const failures: string[] = [];
const longestMs: number[] = [];
let bytes = 0;
let connections = 0;
let isOver = false;
/** What was asked from then on counts for the longest wait. */
let markedMs = 0;

async function dial(): Promise<Socket> {
  const socket = connect({ host, port: Number(port), noDelay: true, allowHalfOpen: true });
  await once(socket, "connect");
  return socket;
}

/** Asks until the end, then compares all that was sent with all that came. */
async function longSession(seed: number): Promise<void> {
  const socket = await dial();
  const [sent, got] = [createHash("sha256"), createHash("sha256")];
  const askedAt: number[] = [];
  let [out, back, longest, since] = [0, 0, 0, 0];
  socket.on("data", (chunk: Buffer) => {
    got.update(chunk);
    back += chunk.length;
    while (askedAt.length > 0 && back >= out - (askedAt.length - 1) * CHUNK) {
      const asked = askedAt.shift()!;
      if (since !== markedMs) [longest, since] = [0, markedMs];
      if (asked >= markedMs) longest = Math.max(longest, performance.now() - asked);
    }
  });
  let problem: string | undefined;
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", ({ message }) => {
    problem = message;
  });
  const source = randomBytes(seed, 1e9, CHUNK);
  for (const chunk of source) {
    if (isOver || socket.destroyed) break;
    sent.update(chunk);
    out += chunk.length;
    askedAt.push(performance.now());
    socket.write(Buffer.from(chunk));
    await sleep(Number(everyMs) * (0.5 + Math.random()));
  }
  socket.end();
  await closed;
  bytes += back;
  longestMs.push(longest);
  if (problem !== undefined) failures.push(`long: ${problem}`);
  else if (back !== out || sent.digest("hex") !== got.digest("hex"))
    failures.push(`long: ${back} of ${out} bytes, or others`);
}

async function shortSession(id: number): Promise<void> {
  const socket = await dial();
  const text = `request ${id}`;
  let answer = "";
  socket.on("data", (chunk: Buffer) => {
    answer += chunk.toString();
  });
  const ended = once(socket, "end");
  socket.end(text);
  await ended;
  if (answer !== text) failures.push(`"${answer}" for "${text}"`);
}

const noted = (what: string, work: Promise<void>): Promise<void> =>
  work.catch((error: Error) => void failures.push(`${what}: ${error.message}`));

async function main(): Promise<void> {
  const all = Array.from({ length: Number(sessions) }, (_, seed) => noted("long", longSession(seed + 1)));
  process.stdin.on("data", (line: Buffer) => {
    if (line.toString().startsWith("mark")) markedMs = performance.now();
    else isOver = true;
  });
  const startedMs = performance.now();
  const short: Promise<void>[] = [];
  while (!isOver) {
    const due = Math.floor(((performance.now() - startedMs) / 1e3) * Number(rate));
    for (; connections < due; connections++) short.push(noted("short", shortSession(connections)));
    await sleep(2);
  }
  await Promise.all([...all, ...short]);
  const report: LoadReport = { failures, sessions: all.length, connections, bytes, longestMs };
  process.send?.(report, () => process.exit(0));
}

await main();
