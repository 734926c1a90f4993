/** Half-opens for one server, and connections to it. */
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { accelerator } from "./accelerator.ts";
import { Connecting } from "./connector.ts";
import { Destinations, staying } from "./destinations.ts";
import type { PoolStats } from "./server.ts";
import type { PoolSettings } from "./settings.ts";

export interface PoolOptions extends PoolSettings {
  /** An address or a name. Names are looked up for each connection. */
  readonly host: string;
  readonly port: number;
  /** How long an ordinary connect may take, ms; default 10,000. */
  readonly timeout?: number;
}

export interface Pool {
  /**
   * A connected socket, its caller's from now on: made of a half-open at once, or by an ordinary connect where none is
   * ready. Rejects as net.connect() fails, with UND_ERR_CONNECT_TIMEOUT when that takes too long, ACCEL_CLOSED after
   * close(). There is no "connect" event to wait for. A socket whose server had forgotten the half-open fails later, with
   * ACCEL_UNDELIVERED: nothing of what was written arrived.
   */
  connect(): Promise<Socket>;
  /** Resolves once half-opens are ready, true, or when it is clear that there will be none, false. */
  ready(): Promise<boolean>;
  /** The pools of its addresses, in numbers. */
  stats(): readonly PoolStats[];
  /** Gives up every half-open. Connections go on. */
  close(): Promise<void>;
}

/** One address of each family. */
const SERVERS_MAX = 2;
const READY_POLL = 5;

/** Keeps half-opens for a server from now on. Throws RangeError ACCEL_SETTINGS. */
export function createPool({ host, port, timeout, ...settings }: PoolOptions): Pool {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw Object.assign(new RangeError(`port must be from 1 to 65535, not ${String(port)}`), {
      code: "ACCEL_SETTINGS",
    });
  }
  const destinations = new Destinations(settings, { max: SERVERS_MAX, idleMs: 0 });
  const connecting = new Connecting(destinations, { ...(timeout !== undefined && { timeout }) });
  const started = destinations.keepFirst({ host, port });
  let isClosed = false;
  return {
    connect: () =>
      new Promise((resolve, reject) => {
        if (isClosed) reject(Object.assign(new Error("the pool is closed"), { code: "ACCEL_CLOSED" }));
        else {
          const target = { hostname: host, port: String(port), protocol: "http:" };
          connecting.forUndici(target, (...[error, socket]) => {
            if (error === null) resolve(socket);
            else reject(error);
          });
        }
      }),
    ready: async () => {
      await staying(started);
      const { servers } = destinations;
      while (!isClosed && !accelerator.isRefused && servers.some(({ isSettled }) => !isSettled))
        await sleep(READY_POLL);
      return !isClosed && destinations.servers.some(({ isReady }) => isReady);
    },
    stats: () => destinations.stats,
    close: async () => {
      isClosed = true;
      await destinations.close();
    },
  };
}
