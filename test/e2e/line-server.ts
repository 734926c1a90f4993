// A server of line requests, run on a host by lines.ts. Arguments: a JSON list of { port, backlog }. Each
// connection sends lines "SIZE" or "SIZE close", perhaps with spaces at the end, and is answered by SIZE bytes; after "close" it is ended here.
import { createServer } from "node:net";

interface Listening {
  readonly port: number;
  readonly backlog?: number;
}

const listeners = JSON.parse(process.argv[2] ?? "[]") as Listening[];

await Promise.all(
  listeners.map(({ port, backlog = 511 }) => {
    const server = createServer((socket) => {
      let pending = "";
      socket.setNoDelay(true);
      socket.on("error", () => undefined);
      socket.on("data", (chunk) => {
        pending += chunk.toString("latin1");
        for (let end = pending.indexOf("\n"); end >= 0; end = pending.indexOf("\n")) {
          const [size, ending] = pending.slice(0, end).split(" ");
          pending = pending.slice(end + 1);
          socket.write(Buffer.alloc(Number(size), "x"));
          if (ending === "close") socket.end();
        }
      });
    });
    return new Promise<void>((resolve) => server.listen({ port, host: "::", backlog }, resolve));
  }),
);
process.send?.("listening");
