/**
 * Reads long answers as fast as they come, as a process: `drain HOST PORT LENGTH STREAMS`. Each stream fetches
 * `/LENGTH` once over a connection of its own into one buffer that is used again and again. With "hash" as a fifth
 * argument the bodies are checked instead of only counted. Prints { bytes, seconds, cpuUs } as JSON; exit 1 when an answer
 * was not whole or wrong.
 */
import { createHash } from "node:crypto";
import { connect } from "node:net";
import { bodyOf } from "./body.ts";

const BUFFER_BYTES = 1 << 20;
const HEAD_END = Buffer.from("\r\n\r\n");

const [host = "", port = "", length = "", streams = "1", check = ""] = process.argv.slice(2);
const expected =
  check === "hash"
    ? createHash("sha256")
        .update(bodyOf(Number(length)))
        .digest("hex")
    : undefined;

/** Resolves with the number of body bytes. */
function fetchOnce(): Promise<number> {
  return new Promise((resolve, reject) => {
    const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
    const hash = expected === undefined ? undefined : createHash("sha256");
    let received = -1;
    const onData = (count: number): void => {
      let body = buffer.subarray(0, count);
      if (received < 0) {
        const end = body.indexOf(HEAD_END);
        if (end < 0 || !body.toString("latin1", 0, end).startsWith("HTTP/1.1 200")) {
          socket.destroy(new Error("not an answer of 200"));
          return;
        }
        body = body.subarray(end + HEAD_END.length);
        received = 0;
      }
      received += body.length;
      hash?.update(body);
      if (received < Number(length)) return;
      if (hash !== undefined && hash.digest("hex") !== expected) socket.destroy(new Error("wrong bytes"));
      else socket.destroy();
    };
    const socket = connect({
      host,
      port: Number(port),
      onread: {
        buffer,
        callback: (count) => {
          onData(count);
          return true;
        },
      },
    });
    socket.on("error", reject);
    socket.on("close", () => {
      if (received === Number(length)) resolve(received);
      else reject(new Error(`${Math.max(received, 0)} of ${length} bytes`));
    });
    socket.write(`GET /${length} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  });
}

const startedAt = performance.now();
const cpuBefore = process.cpuUsage();
try {
  const counts = await Promise.all(Array.from({ length: Number(streams) }, fetchOnce));
  const seconds = (performance.now() - startedAt) / 1e3;
  const { user, system } = process.cpuUsage(cpuBefore);
  const bytes = counts.reduce((sum, count) => sum + count, 0);
  process.stdout.write(`${JSON.stringify({ bytes, seconds, cpuUs: user + system })}\n`);
} catch (error) {
  if (!(error instanceof Error)) throw error;
  process.stderr.write(`drain: ${error.message}\n`);
  process.exitCode = 1;
}
