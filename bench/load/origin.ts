/** The origin as a process: prints one line of JSON when it listens, and serves until a signal ends it. */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { parseArgs } from "node:util";
import { originServer } from "./origin-server.ts";
import { warmUp } from "./warm-up.ts";

const { values } = parseArgs({
  options: { host: { type: "string", default: "::" }, port: { type: "string", default: "8080" } },
});

await warmUp(100);
const { server } = originServer();
server.listen({ host: values.host, port: Number(values.port), backlog: 1024 });
await once(server, "listening");
const { address, port } = server.address() as AddressInfo;
process.stdout.write(`${JSON.stringify({ msg: "listening", address, port })}\n`);
