/**
 * One host with everything on its loopback interface: an origin that is much cheaper than the proxies, and a
 * namespace of its own, so that thousands of ports in TIME_WAIT disturb nobody.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { BenchContext } from "../context.ts";
import type { Host, Lab } from "../lab/lab.ts";
import { bodyOf } from "../load/body.ts";
import { startOrigin } from "../load/processes.ts";
import { nginx } from "../peers/nginx.ts";
import type { Peer, RunningPeer } from "../peers/peer.ts";

export interface Loopback {
  readonly lab: Lab;
  readonly host: Host;
  readonly origin: { readonly host: string; readonly port: number };
  readonly originPid: number;
  readonly peers: readonly RunningPeer[];
}

const ORIGIN_PORT = 8080;
const FIRST_PORT = 9001;
const nginxOrigin = nginx("nginx origin", "nginx-origin.conf");

/** Half of the processors for the proxy, the rest for the load and the origin. */
export const workers = Math.max(1, Math.floor(availableParallelism() / 2));

/**
 * Starts the origin with a body at `/LENGTH` for each length, and the peers that can run here in front of it. The
 * origin is nginx where it is installed, else Node, which also takes bodies: without lengths it always is Node.
 */
export async function startLoopback(
  context: BenchContext,
  peers: readonly Peer[],
  lengths: readonly number[],
): Promise<Loopback> {
  const lab = await context.lab({ hosts: ["box"] });
  const host = lab.host("box");
  host.sysctl({ "net.ipv4.ip_local_port_range": "10240 60999" });
  const origin = { host: "127.0.0.1", port: ORIGIN_PORT };
  const { folder } = context;
  const [server] = lengths.length > 0 ? context.available([nginxOrigin]) : [];
  let originPid: number;
  if (server === undefined) {
    originPid = (await startOrigin(host, ORIGIN_PORT)).pid!;
  } else {
    await mkdir(join(folder, "www"), { recursive: true });
    for (const length of lengths) await writeFile(join(folder, "www", String(length)), bodyOf(length));
    ({ pid: originPid } = await server.start({ host, folder, port: ORIGIN_PORT, origin, workers }));
  }
  const running: RunningPeer[] = [];
  for (const [index, peer] of context.available(peers).entries()) {
    running.push(await peer.start({ host, folder, port: FIRST_PORT + index, origin, workers }));
  }
  return { lab, host, origin, originPid, peers: running };
}
