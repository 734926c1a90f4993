import { writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import type { Status } from "../../proxy/status.ts";
import { version } from "../../proxy/version.ts";
import { root } from "../root.ts";
import { type Peer, type PoolCounts, stopProcess, untilListening } from "./peer.ts";

export interface AccelproxyOptions {
  readonly name: string;
  readonly acceleration: "required" | "off";
  readonly driver?: "io_uring" | "epoll";
  /** An http listener, whose upstream keeps idle connections for this long. */
  readonly reuse?: "never" | "5s";
  /** Of the pool; what is not named keeps its default. */
  readonly pool?: Readonly<{ min?: number; max?: number; maxSynRate?: number }>;
}

const READY_LIMIT_MS = 15_000;
const POLL_MS = 50;

/** The built program, from dist/. */
export function accelproxy({ name, acceleration, driver, reuse, pool = {} }: AccelproxyOptions): Peer {
  return {
    name,
    missing: () => undefined,
    version: () => version,
    async start({ host, folder, port, origin, workers }) {
      const socket = join(folder, `accelproxy-${port}.sock`);
      const file = join(folder, `accelproxy-${port}.json`);
      const config = {
        listeners: [
          {
            name: "bench",
            bind: `127.0.0.1:${port}`,
            upstream: "origin",
            maxConnections: 20_000,
            ...(reuse && { mode: "http" }),
          },
        ],
        upstreams: {
          origin: {
            servers: [{ address: `${origin.host}:${origin.port}` }],
            pool,
            ...(reuse && { reuse }),
          },
        },
        httpWorkers: workers,
        acceleration,
        ...(driver && { driver }),
        workers,
        admin: { bind: `unix:${socket}` },
        log: { level: "error" },
      };
      await writeFile(file, JSON.stringify(config));
      const program = join(root, "dist/proxy/cli.js");
      const child = host.spawn(process.execPath, [program, "--config", file], {
        stdio: ["ignore", "ignore", "pipe"],
      });
      await untilListening(name, child, port);
      await untilReady(socket);
      const counts = (): Promise<PoolCounts> => poolCounts(socket);
      return { name, pid: child.pid!, port, counts, stop: () => stopProcess(child) };
    },
  };
}

async function untilReady(socket: string): Promise<void> {
  const deadline = performance.now() + READY_LIMIT_MS;
  for (;;) {
    const { status } = await get(socket, "/readyz");
    if (status === 200) return;
    if (performance.now() > deadline) throw new Error(`accelproxy: not ready within ${READY_LIMIT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function poolCounts(socket: string): Promise<PoolCounts> {
  const { body } = await get(socket, "/status");
  const [pool] = (body as Status).pools;
  const { hits = 0, misses = 0, replays = 0 } = pool ?? {};
  return { hits, misses, replays };
}

/** GET of the admin interface. */
function get(socketPath: string, path: string): Promise<{ status: number | undefined; body: unknown }> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path }, (response) => {
      json(response).then((body) => resolve({ status: response.statusCode, body }), reject);
    })
      .on("error", reject)
      .end();
  });
}
