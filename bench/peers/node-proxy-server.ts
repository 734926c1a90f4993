/** The plain proxy of node-proxy.ts as a process: PORT ORIGIN_HOST ORIGIN_PORT WORKERS. */
import cluster from "node:cluster";
import { connect, createServer } from "node:net";

const [port = 0, originHost = "", originPort = 0, workers = 1] = process.argv
  .slice(2)
  .map((text, index) => (index === 1 ? text : Number(text))) as [number, string, number, number];

function serve(): void {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const upstream = connect({ host: originHost, port: originPort, allowHalfOpen: true, noDelay: true });
    client.pipe(upstream);
    upstream.pipe(client);
    client.on("error", () => upstream.destroy());
    upstream.on("error", () => client.destroy());
  });
  server.listen({ host: "127.0.0.1", port, backlog: 4096 });
}

if (workers === 1) serve();
else if (cluster.isPrimary) for (let worker = 0; worker < workers; worker++) cluster.fork();
else serve();
