/**
 * An origin that reads bytes, not HTTP: it takes requests only in the one form that leaves nothing to interpret, and says
 * what was wrong with others.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

export interface SeenRequest {
  readonly method: string;
  readonly target: string;
  readonly version: string;
  /** By name in small letters; several values in one, with commas. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
  readonly trailers: ReadonlyMap<string, string>;
}

/** A whole request at the beginning of `bytes`, why there can be none, or undefined when bytes are missing. */
export function readStrictly(bytes: string): { request: SeenRequest; length: number } | string | undefined {
  const headEnd = bytes.indexOf("\r\n\r\n");
  const head = headEnd < 0 ? bytes : bytes.slice(0, headEnd);
  if (/[^\r]\n|\r(?!\n|$)|\0/.test(head)) return "a bare CR, LF or NUL in the head";
  if (headEnd < 0) return undefined;
  const [line = "", ...lines] = head.split("\r\n");
  const start = /^([A-Z-]+) ([\x21-\x7e]+) HTTP\/(1\.[01])$/.exec(line);
  if (start === null) return `request line ${JSON.stringify(line)}`;
  const headers = readFields(lines);
  if (typeof headers === "string") return headers;
  const host = headers.get("host");
  if (host === undefined || !/^[\w.:[\]-]+$/.test(host)) return `Host ${host}`;
  const [length, coding] = [headers.get("content-length"), headers.get("transfer-encoding")];
  if (length !== undefined && coding !== undefined) return "Content-Length beside Transfer-Encoding";
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return `Content-Length ${length}`;
  if (coding !== undefined && coding.toLowerCase() !== "chunked") return `Transfer-Encoding ${coding}`;
  const [, method = "", target = "", version = ""] = start;
  const bodyAt = headEnd + 4;
  const read =
    coding === undefined ? readCounted(bytes, bodyAt, Number(length ?? 0)) : readChunks(bytes, bodyAt);
  if (read === undefined || typeof read === "string") return read;
  const { body, trailers, end } = read;
  return { request: { method, target, version, headers, body, trailers }, length: end };
}

type Body = { body: string; trailers: ReadonlyMap<string, string>; end: number };

function readCounted(bytes: string, at: number, length: number): Body | undefined {
  if (bytes.length < at + length) return undefined;
  return { body: bytes.slice(at, at + length), trailers: new Map(), end: at + length };
}

function readChunks(bytes: string, from: number): Body | string | undefined {
  let at = from;
  let body = "";
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const line = bytes.slice(at, lineEnd);
    if (!/^[0-9a-fA-F]{1,8}$/.test(line)) return `chunk size ${JSON.stringify(line)}`;
    const size = Number.parseInt(line, 16);
    at = lineEnd + 2;
    if (size === 0) break;
    if (bytes.length < at + size + 2) return undefined;
    body += bytes.slice(at, at + size);
    if (bytes.slice(at + size, at + size + 2) !== "\r\n") return "a chunk longer than its size";
    at += size + 2;
  }
  if (bytes.startsWith("\r\n", at)) return { body, trailers: new Map(), end: at + 2 };
  const trailersEnd = bytes.indexOf("\r\n\r\n", at);
  if (trailersEnd < 0) return undefined;
  const trailers = readFields(bytes.slice(at, trailersEnd).split("\r\n"));
  return typeof trailers === "string" ? trailers : { body, trailers, end: trailersEnd + 4 };
}

function readFields(lines: readonly string[]): Map<string, string> | string {
  const fields = new Map<string, string>();
  for (const line of lines) {
    const field = /^([\w!#$%&'*+.^`|~-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/.exec(line);
    if (field === null) return `header ${JSON.stringify(line)}`;
    const [, name = "", value = ""] = field;
    const before = fields.get(name.toLowerCase());
    fields.set(name.toLowerCase(), before === undefined ? value : `${before}, ${value}`);
  }
  return fields;
}

/** What came over all connections since the last take(). */
export interface Seen {
  readonly requests: readonly SeenRequest[];
  /** What could not be read in one way only. */
  readonly problems: readonly string[];
}

export class StrictOrigin {
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  #requests: SeenRequest[] = [];
  #problems: string[] = [];

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => this.#onConnection(socket));
  }

  static async start(): Promise<StrictOrigin> {
    const server = createServer({ noDelay: true }).listen(0, "127.0.0.1");
    await once(server, "listening");
    return new StrictOrigin(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  take(): Seen {
    const seen = { requests: this.#requests, problems: this.#problems };
    this.#requests = [];
    this.#problems = [];
    return seen;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#open) socket.destroy();
  }

  #onConnection(socket: Socket): void {
    let bytes = "";
    this.#open.add(socket);
    socket.on("error", () => {}).on("close", () => this.#open.delete(socket));
    socket.setEncoding("latin1").on("data", (text: string) => {
      bytes += text;
      for (;;) {
        const read = bytes === "" ? undefined : readStrictly(bytes);
        if (read === undefined) return;
        if (typeof read === "string") {
          this.#problems.push(read);
          socket.destroy();
          return;
        }
        this.#requests.push(read.request);
        bytes = bytes.slice(read.length);
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      }
    });
  }
}
