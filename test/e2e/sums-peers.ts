// Clients and origins of sums.test.ts in one process, which count what they send, receive, open and lose. Run on a host by
// it; takes an order by IPC, answers with what was counted. Of tcp, a connection's first line says how many bytes it
// sends, how many it wants, and who ends it.
import { Agent, createServer as createHttpServer, request } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface Ports {
  readonly tcp: number;
  readonly http: number;
  /** Nobody listens. */
  readonly dead: number;
}

/** Connections for each listener of the proxy, and where those are. */
export interface Order {
  readonly concurrency: number;
  readonly ports: Readonly<Record<"tcp" | "http" | "dead" | "line", number>>;
  readonly counts: Readonly<Record<"tcp" | "http" | "dead" | "line", number>>;
}

export interface Side {
  connections: number;
  resets: number;
  sent: number;
  received: number;
}

export interface Counted {
  /** "held": the one that had the only place of "line". */
  readonly clients: Readonly<Record<"tcp" | "http" | "dead" | "line" | "held", Side>>;
  readonly origins: Readonly<Record<"tcp" | "http", Side>>;
  readonly problems: readonly string[];
}

const side = (): Side => ({ connections: 0, resets: 0, sent: 0, received: 0 });
const clients = { tcp: side(), http: side(), dead: side(), line: side(), held: side() };
const origins = { tcp: side(), http: side() };
const problems: string[] = [];
/** Sockets that have not closed yet. */
let open = 0;
const ENDINGS = ["origin ends", "client ends", "client resets"] as const;
const BYTES_MAX = 6_000;
const LIMIT_MS = 20_000;

/** Counts what a socket moves when it has closed. */
function counted(socket: Socket, to: Side): void {
  to.connections += 1;
  open += 1;
  socket.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "ECONNRESET" || error.code === "EPIPE") to.resets += 1;
  });
  socket.once("close", () => {
    open -= 1;
    to.sent += socket.bytesWritten;
    to.received += socket.bytesRead;
  });
}

const tcpOrigin = createServer({ allowHalfOpen: true }, (socket) => {
  counted(socket, origins.tcp);
  let head = "";
  let [left, wanted, ending] = [0, 0, 0];
  const answer = (): void => {
    if (wanted > 0) socket.write(Buffer.alloc(wanted, "a"));
    if (ENDINGS[ending] === "origin ends") socket.end();
  };
  socket.on("data", (chunk) => {
    let body = chunk.length;
    if (!head.includes("\n")) {
      const before = head.length;
      head += chunk.toString("latin1");
      const end = head.indexOf("\n");
      if (end < 0) return;
      [left = 0, wanted = 0, ending = 0] = head.slice(0, end).split(" ").map(Number);
      body -= end + 1 - before;
      if (left === 0) answer();
    }
    if (body === 0) return;
    left -= body;
    if (left === 0) answer();
  });
  socket.on("end", () => socket.end());
});

const httpOrigin = createHttpServer((incoming, response) => {
  incoming.resume().on("end", () => response.end(Buffer.alloc(Number(incoming.headers["x-wanted"]), "a")));
});
httpOrigin.on("connection", (socket) => counted(socket, origins.http));

const [tcp, http] = await Promise.all(
  [tcpOrigin, httpOrigin].map(
    (server) =>
      new Promise<number>((resolve) => {
        server.listen({ host: "127.0.0.1", port: 0, backlog: 1_024 }, () =>
          resolve((server.address() as AddressInfo).port),
        );
      }),
  ),
);
const unused = createServer();
const dead = await new Promise<number>((resolve) => {
  unused.listen({ host: "127.0.0.1", port: 0 }, () => resolve((unused.address() as AddressInfo).port));
});
unused.close();

const random = (): number => Math.floor(Math.random() * BYTES_MAX);

/** One exchange; resolves when its socket has closed. With `hold`, the client ends it, when that resolves. */
function exchange(port: number, to: Side, mayFail: boolean, hold?: () => Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const [length, wanted] = [random(), 1 + random()];
    const ending = hold ? ENDINGS.indexOf("client ends") : Math.floor(Math.random() * ENDINGS.length);
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    socket.setTimeout(LIMIT_MS, () => socket.destroy(new Error("stuck")));
    counted(socket, to);
    socket.on("error", (error) => {
      if (!mayFail) problems.push(String(error));
    });
    socket.once("connect", () => {
      socket.write(
        Buffer.concat([Buffer.from(`${length} ${wanted} ${ending}\n`), Buffer.alloc(length, "r")]),
      );
    });
    const done = async (): Promise<void> => {
      await hold?.();
      if (ENDINGS[ending] === "client ends") socket.end();
      else if (ENDINGS[ending] === "client resets") socket.resetAndDestroy();
    };
    let received = 0;
    socket.on("data", (chunk) => {
      received += chunk.length;
      if (received === wanted) void done();
    });
    socket.on("end", () => socket.end());
    socket.once("close", () => {
      if (!mayFail && received !== wanted)
        problems.push(`${received} of ${wanted} bytes, ${ENDINGS[ending]}`);
      resolve();
    });
  });
}

const agent = new Agent({ keepAlive: false }); // without maxSockets, which would have it keep connections for those who wait;

function post(port: number, to: Side): Promise<void> {
  return new Promise((resolve) => {
    const [length, wanted] = [random(), random()];
    to.connections += 1;
    const headers = { "x-wanted": wanted, "content-length": length };
    const asked = request({ host: "127.0.0.1", port, method: "POST", agent, headers }, (response) => {
      let received = 0;
      response.on("data", (chunk: Buffer) => {
        received += chunk.length;
      });
      response.on("end", () => {
        if (response.statusCode !== 200 || received !== wanted)
          problems.push(`status ${response.statusCode}, ${received} of ${wanted} bytes`);
        resolve();
      });
    });
    asked.on("error", (error) => {
      problems.push(String(error));
      resolve();
    });
    asked.end(Buffer.alloc(length, "r"));
  });
}

/** `count` of them, so many at a time. */
async function times(count: number, concurrency: number, run: () => Promise<void>): Promise<void> {
  let left = count;
  const lane = async (): Promise<void> => {
    while (left-- > 0) await run();
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
}

process.once("message", async ({ concurrency, ports, counts }: Order) => {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let holder: Promise<void> | undefined;
  await new Promise<void>((resolve) => {
    const hold = (): Promise<void> => {
      resolve(); // it has the only place from now on
      return released;
    };
    holder = exchange(ports.line, clients.held, false, hold);
  });
  const refused = times(counts.line - 1, 8, () => exchange(ports.line, clients.line, true)).then(release);
  await Promise.all([
    times(counts.tcp, concurrency, () => exchange(ports.tcp, clients.tcp, false)),
    times(counts.http, concurrency, () => post(ports.http, clients.http)),
    times(counts.dead, 8, () => exchange(ports.dead, clients.dead, true)),
    refused,
    holder,
  ]);
  const deadlineMs = performance.now() + LIMIT_MS;
  while (open > 0 && performance.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 20));
  if (open > 0) problems.push(`${open} sockets do not close`);
  process.send?.({ clients, origins, problems } satisfies Counted);
});
process.send?.({ tcp: tcp!, http: http!, dead } satisfies Ports);
