/**
 * A process on a host of the lab that opens sockets for a test and tells what happens on them. The test's side
 * is peer.ts; they talk over Node's IPC channel. Half-closed connections stay open until the test ends them.
 */
import { createHash, type Hash } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type {
  Bulk,
  ConnectionReport,
  Exchanges,
  FromPeer,
  Outcome,
  Requests,
  ServerKind,
  ToPeer,
} from "./peer.ts";
import { randomBytes } from "./random-bytes.ts";

const TEXT_MAX = 4_096;

const now = (): number => performance.timeOrigin + performance.now();
const tell = (message: FromPeer): void => void process.send?.(message);

/** A connection the test drives, with what it received. */
class Connection {
  readonly id: number;
  readonly socket: Socket;
  readonly #hash: Hash = createHash("sha256");
  #bytes = 0;
  #text = "";

  constructor(id: number, socket: Socket) {
    this.id = id;
    this.socket = socket;
    socket.setNoDelay(true);
    const event = (kind: ConnectionEventKind, code?: string): void =>
      tell({ kind: "event", connection: id, event: kind, atMs: now(), ...(code !== undefined && { code }) });
    socket.on("connect", () => event("connect"));
    socket.on("data", (chunk: Buffer) => {
      if (this.#bytes === 0) event("data");
      this.#bytes += chunk.length;
      this.#hash.update(chunk);
      if (this.#text.length < TEXT_MAX) this.#text += chunk.toString("latin1");
    });
    socket.on("end", () => event("end"));
    socket.on("error", (error: NodeJS.ErrnoException) => event("error", error.code));
    socket.on("close", () => event("close"));
  }

  get report(): ConnectionReport {
    return { bytes: this.#bytes, sha256: this.#hash.copy().digest("hex"), text: this.#text };
  }
}

type ConnectionEventKind = Extract<FromPeer, { kind: "event" }>["event"];

const connections = new Map<number, Connection>();
const servers = new Map<number, Server>();
/** Requests the servers of kind "count" saw, by their number. */
const seen = new Map<number, number>();
let nextId = 1;

async function sendBulk(
  socket: Socket,
  { bytes, seed, chunk, pauseMs = 0, pauseEvery = 1 }: Bulk,
): Promise<string> {
  const hash = createHash("sha256");
  let written = 0;
  for (const part of randomBytes(seed, bytes, chunk)) {
    hash.update(part);
    if (!socket.write(part)) await once(socket, "drain");
    written += 1;
    if (pauseMs > 0 && written % pauseEvery === 0) await sleep(Math.random() * pauseMs);
  }
  return hash.digest("hex");
}

function serve(socket: Socket, kind: ServerKind): void {
  socket.on("error", () => socket.destroy());
  if (kind.behaviour === "echo") {
    socket.pipe(socket);
    return;
  }
  if (kind.behaviour === "greet") {
    socket.end(kind.text);
    socket.resume();
    return;
  }
  if (kind.behaviour === "count") socket.once("data", (chunk: Buffer) => countRequest(socket, chunk, kind));
}

/** A request is `id=NUMBER\n`; what comes after the first segment is never read by those that close. */
function countRequest(
  socket: Socket,
  chunk: Buffer,
  kind: Extract<ServerKind, { behaviour: "count" }>,
): void {
  const id = Number(/id=(\d+)/.exec(chunk.toString("latin1"))?.[1] ?? -1);
  seen.set(id, (seen.get(id) ?? 0) + 1);
  const act = (): void => {
    if (kind.act === "reset") socket.resetAndDestroy();
    else if (kind.act === "close") socket.destroy();
    else socket.end(`done ${id}${kind.name === undefined ? "" : ` by ${kind.name}`}\n`);
  };
  if (kind.afterMs === undefined) act();
  else setTimeout(act, kind.afterMs);
}

function listen(
  kind: ServerKind,
  port: number,
  host: string,
  backlog: number,
): Promise<{ server: number; port: number }> {
  const id = nextId++;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: false }, (socket) => {
    if (kind.behaviour === "report") {
      const connection = new Connection(nextId++, socket);
      connections.set(connection.id, connection);
      tell({ kind: "accepted", server: id, connection: connection.id, atMs: now() });
    } else {
      serve(socket, kind);
    }
  });
  servers.set(id, server);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, host, backlog }, () => {
      const address = server.address();
      resolve({ server: id, port: typeof address === "object" && address !== null ? address.port : 0 });
    });
  });
}

/** One request; what became of it and when its first byte came. */
function request(
  host: string,
  port: number,
  id: number,
  { secondAfterMs, limitMs }: Requests,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const startedMs = performance.now();
    let text = "";
    let firstByteMs: number | undefined;
    const socket = connect({ host, port, noDelay: true });
    const timer = setTimeout(() => finish("silence"), limitMs);
    const finish = (end: Outcome["end"]): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({
        id,
        end: text === "" || end !== "end" ? end : "answer",
        text,
        firstByteMs,
        tookMs: performance.now() - startedMs,
      });
    };
    socket.write(`id=${id}\n`);
    if (secondAfterMs !== undefined)
      setTimeout(() => socket.writable && socket.write("more\n"), secondAfterMs);
    socket.on("data", (chunk: Buffer) => {
      firstByteMs ??= performance.now() - startedMs;
      text += chunk.toString("latin1");
    });
    socket.on("end", () => finish("end"));
    socket.on("error", ({ code }: NodeJS.ErrnoException) =>
      finish(code === "ECONNRESET" || code === "EPIPE" ? "reset" : "refused"),
    );
  });
}

async function requests(options: Requests): Promise<Outcome[]> {
  const { host, port, first, count, concurrency = 1, gapMs = 0 } = options;
  const outcomes: Outcome[] = [];
  let next = first;
  const lane = async (): Promise<void> => {
    while (next < first + count) {
      outcomes.push(await request(host, port, next++, options));
      if (gapMs > 0) await sleep(gapMs);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  return outcomes;
}

/** One connection to an echoing server: sends, ends, and compares what comes back. */
async function exchange(
  host: string,
  port: number,
  seed: number,
  bytes: number,
): Promise<string | undefined> {
  const socket = connect({ host, port, allowHalfOpen: true });
  const hash = createHash("sha256");
  socket.on("data", (chunk: Buffer) => hash.update(chunk));
  try {
    const ended = once(socket, "end");
    const sent = await sendBulk(socket, { bytes, seed });
    socket.end();
    await ended;
    return hash.digest("hex") === sent ? undefined : "the bytes differ";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    socket.destroy();
  }
}

/** Many exchanges, all started at once. Returns the problems. */
async function exchanges({ host, port, count, bytesMax, seed }: Exchanges): Promise<string[]> {
  const all = Array.from({ length: count }, (_, index) => {
    const size = 1 + ((index * 7919 + seed * 104_729) % bytesMax);
    return exchange(host, port, seed * count + index, size);
  });
  return (await Promise.all(all)).filter((problem) => problem !== undefined);
}

async function obey(message: ToPeer): Promise<unknown> {
  const socket = (): Socket => {
    const connection = "connection" in message ? connections.get(message.connection) : undefined;
    if (connection === undefined) throw new Error(`no connection for ${message.op}`);
    return connection.socket;
  };
  switch (message.op) {
    case "listen":
      return listen(message.serve, message.port, message.host, message.backlog);
    case "unlisten":
      // Not awaited: its connections go on.
      servers.get(message.server)?.close();
      return undefined;
    case "connect": {
      const { host, port } = message;
      const connection = new Connection(nextId++, connect({ host, port, allowHalfOpen: true }));
      connections.set(connection.id, connection);
      if (message.text !== undefined) connection.socket.write(message.text, "latin1");
      if (message.end === true) connection.socket.end();
      return { connection: connection.id, atMs: now() };
    }
    case "write":
      socket().write(message.text, "latin1");
      return undefined;
    case "end":
      socket().end();
      return undefined;
    case "reset":
      socket().resetAndDestroy();
      return undefined;
    case "pause":
      socket().pause();
      return undefined;
    case "resume":
      socket().resume();
      return undefined;
    case "send":
      return sendBulk(socket(), message.bulk);
    case "report":
      return connections.get(message.connection)?.report;
    case "requests":
      return requests(message.requests);
    case "exchanges":
      return exchanges(message.exchanges);
    case "seen":
      return [...seen];
    default: {
      const unreachable: never = message;
      return unreachable;
    }
  }
}

process.on("message", (asked: ToPeer & { call: number }) => {
  obey(asked).then(
    (result) => tell({ kind: "done", call: asked.call, result }),
    (error: unknown) => tell({ kind: "failed", call: asked.call, message: String(error) }),
  );
});
tell({ kind: "up" });
