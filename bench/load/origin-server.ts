import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { bodyOf } from "./body.ts";

/** What an origin has done since it started. */
interface OriginCounts {
  readonly connections: number;
  readonly requests: number;
  /** Of bodies. */
  readonly bytes: number;
}

export interface Origin {
  readonly server: Server;
  readonly counts: () => OriginCounts;
}

const LENGTH_MAX = 1 << 30;
const KEEP_ALIVE_MS = 60_000;

/**
 * An HTTP/1.1 server, not yet listening: `GET /N` answers N bytes (bodyOf), `GET /counts` what it served before
 * as JSON; `PUT /N` reads a body and answers how many bytes it had, or its digest when asked for `?sha256`. Connections are kept unless the request says `Connection: close`.
 */
export function originServer(): Origin {
  const counts = { connections: 0, requests: 0, bytes: 0 };
  const bodies = new Map<number, Buffer>();
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS, noDelay: true }, (request, response) => {
    const { url = "/" } = request;
    if (url === "/counts") {
      answer(response, 200, Buffer.from(JSON.stringify(counts)));
      return;
    }
    if (request.method === "PUT") {
      receive(request, response);
      return;
    }
    const length = /^\/\d{1,10}$/.test(url) ? Number(url.slice(1)) : Number.NaN;
    if (!(length <= LENGTH_MAX)) {
      answer(response, 404, Buffer.from("GET /N, N bytes up to 1 GiB\n"));
      return;
    }
    let body = bodies.get(length);
    if (body === undefined) {
      body = bodyOf(length);
      bodies.clear(); // one length at a time is asked for; two of 1 GiB would not fit everywhere
      bodies.set(length, body);
    }
    counts.requests += 1;
    counts.bytes += length;
    answer(response, 200, body);
  });
  server.on("connection", () => {
    counts.connections += 1;
  });
  return { server, counts: () => ({ ...counts }) };
}

function receive(request: IncomingMessage, response: ServerResponse): void {
  const hash = request.url?.endsWith("?sha256") ? createHash("sha256") : undefined;
  let bytes = 0;
  request.on("data", (piece: Buffer) => {
    bytes += piece.length;
    hash?.update(piece);
  });
  request.on("end", () => answer(response, 200, Buffer.from(hash?.digest("hex") ?? String(bytes))));
}

function answer(response: ServerResponse, status: number, body: Buffer): void {
  response.writeHead(status, { "Content-Length": body.length });
  response.end(body);
}
