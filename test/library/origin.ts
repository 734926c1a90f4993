/** An HTTP origin for the tests of the library: plain and over TLS (http/1.1 and h2), and what it saw. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { TLSSocket } from "node:tls";

export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

const ORIGIN_NAMES = ["origin.test", "localhost"];

/** A certificate of its own authority for some names, and the addresses the tests use. */
export function makeCertificate(hosts: readonly string[] = ORIGIN_NAMES): Certificate {
  const folder = mkdtempSync(join(tmpdir(), "accelproxy-cert-"));
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  const names = [...hosts.map((host) => `DNS:${host}`), "IP:127.0.0.1,IP:::1,IP:10.77.0.2"].join(",");
  const made = spawnSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
    ...["-subj", `/CN=${hosts[0]}`, "-addext", `subjectAltName=${names}`, "-keyout", key, "-out", cert],
  ]);
  if (made.status !== 0) throw new Error(`openssl: ${made.stderr}`);
  const pair = { key: readFileSync(key, "utf8"), cert: readFileSync(cert, "utf8") };
  rmSync(folder, { recursive: true });
  return pair;
}

/** What the origin counted since the last reset(). */
export interface Seen {
  readonly connections: number;
  /** TLS connections that resumed an earlier session. */
  readonly resumed: number;
  /** How often each request, by its number in the path, was begun. */
  readonly requests: Readonly<Record<string, number>>;
}

type AnyRequest = IncomingMessage | Http2ServerRequest;
type AnyResponse = ServerResponse | Http2ServerResponse;

/** Routes: /echo, /slow, /half, /endless, /close, /reset, /id/N, else what the request was like. */
export class Origin {
  readonly certificate: Certificate;
  readonly #host: string;
  readonly #plain: Server;
  readonly #secure: Server;
  readonly #open = new Set<Socket>();
  #ports = { plain: 0, secure: 0 };
  #connections = 0;
  #resumed = 0;
  #requests: Record<string, number> = {};

  private constructor(host: string, certificate: Certificate) {
    this.#host = host;
    this.certificate = certificate;
    const handle = (request: AnyRequest, response: AnyResponse): void => {
      void this.#answer(request, response);
    };
    this.#plain = createServer({ keepAliveTimeout: 60_000 }, handle as RequestListener);
    this.#secure = createSecureServer({ ...certificate, allowHTTP1: true }, handle);
    for (const server of [this.#plain, this.#secure]) {
      server.on("connection", (socket: Socket) => {
        this.#connections += 1;
        this.#open.add(socket);
        socket.on("error", () => {}).on("close", () => this.#open.delete(socket));
      });
    }
    this.#plain.on("upgrade", (_request: IncomingMessage, socket: Socket) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
      socket.on("error", () => {}).pipe(socket);
    });
    this.#plain.on("connect", (_request: IncomingMessage, socket: Socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      socket.on("error", () => {}).pipe(socket);
    });
    this.#secure.on("secureConnection", (socket: TLSSocket) => {
      if (socket.isSessionReused()) this.#resumed += 1;
    });
    this.#secure.on("tlsClientError", () => {});
    this.#secure.on("sessionError", () => {});
  }

  static async start(host: string, certificate: Certificate): Promise<Origin> {
    const origin = new Origin(host, certificate);
    await origin.#listen();
    return origin;
  }

  get ports(): { readonly plain: number; readonly secure: number } {
    return this.#ports;
  }

  get seen(): Seen {
    return { connections: this.#connections, resumed: this.#resumed, requests: this.#requests };
  }

  reset(): void {
    this.#connections = 0;
    this.#resumed = 0;
    this.#requests = {};
  }

  /** Forgets every half-open, as a listener does that is closed; connections go on. */
  async forget(): Promise<void> {
    for (const server of [this.#plain, this.#secure]) server.close();
    await this.#listen();
  }

  close(): void {
    for (const server of [this.#plain, this.#secure]) server.close();
    for (const socket of this.#open) socket.destroy();
  }

  async #listen(): Promise<void> {
    const listen = (server: Server, port: number): Promise<number> =>
      new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen({ port, host: this.#host, backlog: 2_048 }, () => {
          server.off("error", reject);
          resolve((server.address() as AddressInfo).port);
        });
      });
    this.#ports = {
      plain: await listen(this.#plain, this.#ports.plain),
      secure: await listen(this.#secure, this.#ports.secure),
    };
  }

  async #answer(request: AnyRequest, response: AnyResponse): Promise<void> {
    const [, route = "", id = ""] = (request.url ?? "/").split("/");
    const { socket } = request as IncomingMessage;
    if (route === "id") this.#requests[id] = (this.#requests[id] ?? 0) + 1;
    if (route === "reset") {
      socket.resetAndDestroy();
      return;
    }
    if (route === "close") {
      socket.destroy();
      return;
    }
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    } catch {
      return; // the client went
    }
    const body = Buffer.concat(chunks);
    const text = { "content-type": "text/plain" };
    if (route === "slow") await sleep(2_000, undefined, { ref: false });
    if (route === "half" || route === "endless") {
      (response as ServerResponse).writeHead(200, { ...text, "content-length": 1 << 20 });
      (response as ServerResponse).write("half");
      if (route === "half") return;
      while (!response.destroyed && response.writable) {
        (response as ServerResponse).write(Buffer.alloc(1_024));
        await sleep(5, undefined, { ref: false });
      }
      return;
    }
    (response as ServerResponse).writeHead(200, text);
    if (route === "echo" || route === "id") response.end(body);
    else {
      const { method, httpVersion, headers } = request;
      const servername = (socket as TLSSocket).servername || null;
      const host = headers.host ?? headers[":authority"];
      const isHost = typeof host === "string" && host.length > 0;
      response.end(JSON.stringify({ method, httpVersion, isHost, servername, length: body.length }));
    }
  }
}
