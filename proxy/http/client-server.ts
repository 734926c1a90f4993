/**
 * Node's HTTP server as http listeners use it: given connections instead of listening, strict, and with the settings in
 * one place. What llhttp refuses is answered here.
 */
import { createServer, IncomingMessage, type Server, type ServerOptions } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { Socket } from "node:net";
import type { SecureContext } from "node:tls";
import * as limits from "./limits.ts";

/**
 * A request whose upgrade is one we pass on. All others are ordinary requests, which RFC 9110 section 7.8 allows: to h2c, an
 * upstream would go on with requests that no route ever sees.
 */
class ClientRequest extends IncomingMessage {
  /** Only declared: Node's constructor sets it before fields of this class would exist. */
  declare isUpgradeAsked: boolean;

  /** Node asks this before it hands the connection over instead of answering. */
  get upgrade(): boolean {
    return this.isUpgradeAsked && isWebSocket(this);
  }

  set upgrade(isAsked: boolean) {
    this.isUpgradeAsked = isAsked;
  }
}

function isWebSocket({ method, headers, httpVersion }: IncomingMessage): boolean {
  if (method === "CONNECT") return true;
  const hasBody = headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) !== 0;
  const asked = headers.upgrade?.toLowerCase();
  return method === "GET" && asked === "websocket" && httpVersion === "1.1" && !hasBody;
}

const OPTIONS: ServerOptions = {
  IncomingMessage: ClientRequest,
  insecureHTTPParser: false,
  requireHostHeader: true,
  maxHeaderSize: limits.HEAD_BYTES_MAX,
  keepAlive: true,
  noDelay: true,
  // Those of Node work for listening servers only: see HttpListener.sweep().
  headersTimeout: 0,
  requestTimeout: 0,
};

/** Chooses what a client is shown by the name it asks for. */
export type ChooseContext = (servername: string) => SecureContext;

/** A server for plain HTTP, or for TLS with what `choose` says. */
export function createClientServer(choose: ChooseContext | undefined): Server {
  const server =
    choose === undefined
      ? createServer(OPTIONS)
      : createSecureServer({
          ...OPTIONS,
          ALPNProtocols: ["http/1.1"],
          handshakeTimeout: limits.HEAD_LIMIT,
          SNICallback: (servername, callback) => callback(null, choose(servername)),
        });
  // Headers beyond a number would be dropped in silence; their bytes are limited.
  server.maxHeadersCount = 0;
  return server;
}

/** The status for what could not be parsed, or undefined when the connection itself failed. */
export function statusOfClientError(error: Error): number | undefined {
  const { code = "" } = error as NodeJS.ErrnoException;
  if (code === "HPE_HEADER_OVERFLOW") return 431;
  if (code === "HPE_CHUNK_EXTENSIONS_OVERFLOW") return 413;
  return code.startsWith("HPE_") && code !== "HPE_INVALID_EOF_STATE" ? 400 : undefined;
}

/** The address of a client, IPv4 as such. */
export function addressOf({ remoteAddress = "" }: Socket): string {
  return remoteAddress.replace(/^::ffff:(?=\d+\.)/, "");
}
