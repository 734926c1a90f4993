/** A server that only listens, with room for as many half-opens as the kernel allows: PORT. */
import { once } from "node:events";
import { createServer } from "node:net";

const BACKLOG = 65_535;

const server = createServer((socket) => void socket.on("error", () => {}).resume());
server.listen({ host: "::", port: Number(process.argv[2]), backlog: BACKLOG });
await once(server, "listening");
process.stdout.write(`${JSON.stringify({ phase: "listening" })}\n`);
