import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { type Peer, stopProcess, untilListening } from "./peer.ts";

/** What one writes in an afternoon: Node's net, pipe in both directions, one process a worker. */
export const nodeProxy: Peer = {
  name: "Node net",
  missing: () => undefined,
  version: () => process.version,
  async start({ host, port, origin, workers }) {
    const script = new URL(`./node-proxy-server${extname(import.meta.url)}`, import.meta.url);
    const args = [port, origin.host, origin.port, workers].map(String);
    const child = host.spawn(process.execPath, [...process.execArgv, fileURLToPath(script), ...args], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    await untilListening(this.name, child, port);
    return { name: this.name, pid: child.pid!, port, stop: () => stopProcess(child) };
  },
};
