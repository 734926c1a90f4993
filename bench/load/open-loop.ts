/**
 * Open-loop load that is cheap enough to share a small machine with what it measures: one thread on the io_uring driver,
 * a connection a request, sent at Poisson times whether or not earlier ones were answered. A latency counts from when
 * its request was due to the last byte of the answer, which is compared with bodyOf():
 * `open-loop PORT LENGTH RATE SECONDS SEED`. Prints { latenciesUs } as JSON, without those of the first half second;
 * exit 1 when an answer was wrong.
 */
import { encodeSockaddr } from "../../native/address.ts";
import { Memory } from "../../native/memory.ts";
import { newTcpSocket } from "../../native/net/tcp-socket.ts";
import { createIoUringDriver } from "../../proxy/engine/io-uring-driver.ts";
import { poissonArrivals } from "./arrivals.ts";
import { bodyOf } from "./body.ts";

const RECV = 0;
const SEND = 1;
const CONNECT = 2;
const WARM_UP_MS = 500;
const ANSWER_MAX = 4_096;
const IN_FLIGHT_MAX = 4_096;
const TIMEOUT_MS = 5_000;

const [port = 0, length = 0, rate = 0, seconds = 0, seed = 0] = process.argv.slice(2).map(Number);
const driver = createIoUringDriver({ entries: 1_024, bufferCount: 1_024, bufferSize: ANSWER_MAX });
const address = encodeSockaddr({ address: "127.0.0.1", port });
const scratch = Memory.anonymous(4_096);
scratch.bytes.set(address);
const request = Buffer.from(`GET /${length} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n`);
const REQUEST_AT = 1_024;
scratch.bytes.set(request, REQUEST_AT);
const expected = bodyOf(length);

/** By slot: the connection, when its request was due, and its answer so far. */
const fds = new Int32Array(IN_FLIGHT_MAX);
const dueMs = new Float64Array(IN_FLIGHT_MAX);
const lastByteMs = new Float64Array(IN_FLIGHT_MAX);
const answers = new Uint8Array(IN_FLIGHT_MAX * ANSWER_MAX);
const received = new Int32Array(IN_FLIGHT_MAX);
const freeSlots = Array.from({ length: IN_FLIGHT_MAX }, (_, slot) => slot);
const latenciesUs: number[] = [];
const arrivals = poissonArrivals(rate, WARM_UP_MS + seconds * 1e3, seed);
const begin = performance.now() + 20;
let ended = 0;

function fail(what: string): never {
  process.stderr.write(`open-loop: ${what} (port ${port})\n`);
  process.exit(1);
}

function start(atMs: number): void {
  const slot = freeSlots.pop() ?? fail(`${IN_FLIGHT_MAX} requests in flight`);
  fds[slot] = newTcpSocket(4, 0).release();
  dueMs[slot] = atMs;
  received[slot] = 0;
  driver.connect(fds[slot]!, scratch.address, address.length, slot, CONNECT);
}

/** The answer is over: whole and right, or the load has failed. */
function finish(slot: number): void {
  const answer = Buffer.from(answers.buffer, slot * ANSWER_MAX, received[slot]!);
  const body = answer.subarray(answer.indexOf("\r\n\r\n") + 4);
  if (!answer.toString("latin1", 0, 12).endsWith(" 200") || !body.equals(expected))
    fail(`a wrong answer of ${answer.length} bytes`);
  if (dueMs[slot]! >= WARM_UP_MS) latenciesUs.push((lastByteMs[slot]! - begin - dueMs[slot]!) * 1e3);
  driver.close(fds[slot]!);
  freeSlots.push(slot);
  ended += 1;
}

const handler = {
  complete(slot: number, tag: number, result: number, bufferId: number): void {
    if (result < 0) fail(`error ${-result} of request ${tag}`);
    if (tag === CONNECT) {
      driver.send(fds[slot]!, scratch.address + REQUEST_AT, request.length, slot, SEND);
      driver.recv(fds[slot]!, slot, RECV);
    } else if (tag === RECV && result === 0) {
      finish(slot);
    } else if (tag === RECV) {
      const at = received[slot]!;
      if (at + result > ANSWER_MAX) fail("an answer that is too long");
      answers.set(driver.buffers.bytes(bufferId, result), slot * ANSWER_MAX + at);
      driver.release(bufferId);
      received[slot] = at + result;
      lastByteMs[slot] = performance.now();
      driver.recv(fds[slot]!, slot, RECV);
    }
  },
};

for (let next = 0; ended < arrivals.length; ) {
  const nowMs = performance.now() - begin;
  while (next < arrivals.length && arrivals[next]! <= nowMs) start(arrivals[next++]!);
  if (nowMs > WARM_UP_MS + seconds * 1e3 + TIMEOUT_MS) fail(`${arrivals.length - ended} answers missing`);
  driver.run(Math.max(0, (arrivals[next] ?? nowMs + 100) - nowMs), handler);
}
driver.stop();
process.stdout.write(`${JSON.stringify({ latenciesUs })}\n`);
