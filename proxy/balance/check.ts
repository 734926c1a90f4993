/** One active check of a server: whether it accepts a connection, or how it answers a request. */
import { request } from "node:http";
import { connect } from "node:net";
import type { Endpoint } from "../../native/address.ts";
import { errorSymbol } from "../errors.ts";

export interface CheckOptions {
  readonly server: Endpoint;
  readonly timeoutMs: number;
  /** Of a GET; null: a TCP connection is enough. */
  readonly path: string | null;
  /** What a request has as its Host. */
  readonly host: string;
}

/**
 * Resolves with undefined when the server is well, else with what is wrong, within `timeoutMs`. The connection is an
 * ordinary one, so that no half-open is used up, and ends with a reset, so that none is left in TIME_WAIT. Keeps no
 * process alive. Never rejects.
 */
export function checkServer({ server, timeoutMs, path, host }: CheckOptions): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: server.address, port: server.port });
    const end = (problem?: string): void => {
      clearTimeout(limit);
      socket.resetAndDestroy();
      resolve(problem);
    };
    const limit = setTimeout(end, timeoutMs, "ETIMEDOUT").unref();
    socket.unref();
    socket.on("error", (error) => end(errorSymbol(error)));
    if (path === null) {
      socket.once("connect", () => end());
      return;
    }
    const headers = { host, "user-agent": "accelproxy", accept: "*/*", connection: "close" };
    const asked = request({ createConnection: () => socket, path, headers, setHost: false });
    asked.once("response", ({ statusCode = 0 }) => {
      end(statusCode >= 200 && statusCode < 400 ? undefined : `status ${statusCode}`);
    });
    asked.on("error", (error) => end(errorSymbol(error)));
    asked.end();
  });
}
