/**
 * Moves long bodies as fast as they go, as a process: `transfer HOST PORT DIRECTION LENGTH STREAMS TURNS`. DIRECTION "down"
 * fetches `/LENGTH` into one buffer that is used again and again, "up" puts as much there out of one. Each stream does so
 * TURNS times, over a connection of its own each time. With "check" as a seventh argument every byte is compared with
 * bodyOf(). Prints { bytes, seconds, cpuUs } as JSON; exit 1 when a body was not whole or wrong.
 */
import { createHash } from "node:crypto";
import { connect, type Socket } from "node:net";
import { BODY_PERIOD, bodyOf } from "./body.ts";

const BUFFER_BYTES = 1 << 20;
const HEAD_END = Buffer.from("\r\n\r\n");

const [host = "", port = "", direction = "", lengthText = "", streams = "1", turns = "1", check = ""] =
  process.argv.slice(2);
const length = Number(lengthText);
const expected = check === "check" ? digestOf(bodyOf(length)) : undefined;
/** Of whole periods, so that it can follow itself. */
const outgoing = bodyOf(direction === "up" ? 16 * BODY_PERIOD : 0);

function digestOf(body: Uint8Array): string {
  return createHash("sha256").update(body).digest("hex");
}

/** What an answer's body has to be: LENGTH bytes, or what the server says of those it was sent. */
class Answer {
  readonly #hash = expected === undefined ? undefined : createHash("sha256");
  #bytes = 0;
  #said = "";

  add(piece: Uint8Array): void {
    this.#bytes += piece.length;
    if (direction === "up") this.#said += Buffer.from(piece).toString();
    else this.#hash?.update(piece);
  }

  /** What is wrong with it, or undefined. */
  problem(): string | undefined {
    if (direction === "up")
      return this.#said === (expected ?? String(length)) ? undefined : `said ${this.#said}`;
    if (this.#bytes !== length) return `${this.#bytes} of ${length} bytes`;
    return this.#hash?.digest("hex") === expected ? undefined : "wrong bytes";
  }
}

/** One body over one connection, which the server closes. */
function moveOnce(): Promise<void> {
  return new Promise((resolve, reject) => {
    const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
    const answer = new Answer();
    let isInBody = false;
    const onData = (data: Buffer): void => {
      if (isInBody) {
        answer.add(data);
        return;
      }
      const end = data.indexOf(HEAD_END);
      isInBody = end >= 0 && data.toString("latin1", 0, end).startsWith("HTTP/1.1 200");
      if (isInBody) answer.add(data.subarray(end + HEAD_END.length));
      else socket.destroy(new Error("not an answer of 200"));
    };
    const socket = connect({
      host,
      port: Number(port),
      onread: {
        buffer,
        callback: (count) => {
          onData(buffer.subarray(0, count));
          return true;
        },
      },
    });
    socket.on("error", reject);
    socket.on("close", () => {
      const problem = answer.problem();
      if (problem === undefined) resolve();
      else reject(new Error(problem));
    });
    const head = `HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n`;
    if (direction === "up") {
      const query = expected === undefined ? "" : "?sha256";
      socket.write(`PUT /${length}${query} ${head}Content-Length: ${length}\r\n\r\n`);
      sendBody(socket, length);
    } else {
      socket.write(`GET /${length} ${head}\r\n`);
    }
  });
}

function sendBody(socket: Socket, left: number): void {
  if (left === 0) return;
  const piece = outgoing.subarray(0, left);
  socket.write(piece, (error) => {
    if (!error) sendBody(socket, left - piece.length);
  });
}

async function moveInTurn(): Promise<void> {
  for (let turn = 0; turn < Number(turns); turn++) await moveOnce();
}

const startedAt = performance.now();
const cpuBefore = process.cpuUsage();
try {
  await Promise.all(Array.from({ length: Number(streams) }, moveInTurn));
  const seconds = (performance.now() - startedAt) / 1e3;
  const { user, system } = process.cpuUsage(cpuBefore);
  const bytes = length * Number(streams) * Number(turns);
  process.stdout.write(`${JSON.stringify({ bytes, seconds, cpuUs: user + system })}\n`);
} catch (error) {
  if (!(error instanceof Error)) throw error;
  process.stderr.write(`transfer: ${error.message}\n`);
  process.exit(1);
}
