/**
 * The head of a request, once it is certain that everybody behind us will read it as we did. llhttp, which parsed it, has
 * refused what is wrong byte by byte; what is left are the questions where RFC 9112 leaves a choice and parsers differ:
 * where the body ends, which host is meant, which path. What is not plainly one thing is refused; the rest is written
 * anew, so that no byte of the client's framing goes upstream.
 */
import type { IncomingMessage } from "node:http";

/** How a body is delimited: not there, by its length, or in chunks. */
export type Framing = "none" | "chunked" | number;

export interface RequestHead {
  readonly method: string;
  /** As the upstream gets it: a path with query, or `*`. */
  readonly target: string;
  /** The path that decides on the route: without query, dots resolved. */
  readonly path: string;
  /** What the client calls us, with a port if it said one; empty when an HTTP/1.0 client said nothing. */
  readonly authority: string;
  /** The same without port, for routes. */
  readonly host: string;
  /** Names and values in turn, end to end, without Host and what frames the body. */
  readonly fields: readonly string[];
  readonly framing: Framing;
  /** Waits for a 100 before it sends its body. */
  readonly expectsContinue: boolean;
  /** It may be sent again although it may have arrived (RFC 9110 section 9.2.2). */
  readonly isIdempotent: boolean;
}

export interface Refusal {
  readonly status: number;
  readonly reason: string;
}

// RFC 9110 section 7.6.1, and what RFC 2616 and proxies before it called so.
const HOP_BY_HOP = new Set([
  ...["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization"],
  ...["te", "transfer-encoding", "upgrade", "http2-settings", "content-length"],
]);
/** What an origin must find only where we put it: not spelt with `_`, which CGI and WSGI take for `-`, nor in trailers. */
const GUARDED =
  /^(host|connection|content[-_]length|transfer[-_]encoding|forwarded|via|x[-_](forwarded|real|request|client)[-_].*)$/;
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]);
// RFC 3986 section 3.2.2, as strict as names on the web are.
const AUTHORITY = /^([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i;
const TOKENS = /^[\w!#$%&'*+.^`|~-]+$/;

/** Reads what llhttp parsed. Pure. */
export function readHead(request: IncomingMessage): RequestHead | Refusal {
  const { rawHeaders, httpVersion } = request;
  const { method = "", url = "" } = request;
  if (httpVersion !== "1.1" && httpVersion !== "1.0")
    return refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken");
  if (method === "CONNECT" || method === "TRACE") return refuse(405, `${method} is not served`);
  const values = (name: string): string[] => valuesOf(rawHeaders, name);
  const hosts = values("host");
  if (hosts.length > 1) return refuse(400, "more than one Host");
  const framing = readFraming(values("transfer-encoding"), values("content-length"), httpVersion);
  if (typeof framing === "object") return framing;
  const target = readTarget(method, url, hosts[0]);
  if ("status" in target) return target;
  const listed = readConnection(values("connection"));
  if (listed === undefined) return refuse(400, "Connection is not a list of header names");
  if (listed.has("host")) return refuse(400, "Connection names Host");
  return {
    method,
    ...target,
    fields: endToEnd(rawHeaders, listed),
    framing,
    expectsContinue:
      httpVersion === "1.1" && framing !== "none" && framing !== 0 && values("expect").length > 0,
    isIdempotent: IDEMPOTENT.has(method),
  };
}

/** Headers of a message that go on to whoever is next; `listed` are those its Connection header names. */
function endToEnd(rawHeaders: readonly string[], listed: ReadonlySet<string>): string[] {
  const fields: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase();
    if (HOP_BY_HOP.has(name) || listed.has(name) || name === "host" || name === "expect") continue;
    if (name.includes("_") && GUARDED.test(name)) continue;
    fields.push(rawHeaders[at]!, rawHeaders[at + 1]!);
  }
  return fields;
}

/** What of a response's headers goes on to the client. */
export function responseFields(rawHeaders: readonly string[], keepsLength: boolean): string[] {
  const listed = readConnection(valuesOf(rawHeaders, "connection")) ?? new Set();
  const fields: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!.toLowerCase();
    const isLength = name === "content-length" && keepsLength;
    if (!isLength && (HOP_BY_HOP.has(name) || listed.has(name))) continue;
    fields.push(rawHeaders[at]!, rawHeaders[at + 1]!);
  }
  return fields;
}

/** Trailers that may follow a body: nothing that frames, routes or authenticates (RFC 9110 section 6.5.1). */
export function trailerFields(rawTrailers: readonly string[]): [string, string][] {
  const trailers: [string, string][] = [];
  for (let at = 0; at < rawTrailers.length; at += 2) {
    const name = rawTrailers[at]!.toLowerCase();
    const isHead = HOP_BY_HOP.has(name) || GUARDED.test(name) || FORBIDDEN_TRAILERS.has(name);
    if (!isHead) trailers.push([rawTrailers[at]!, rawTrailers[at + 1]!]);
  }
  return trailers;
}

const FORBIDDEN_TRAILERS = new Set([
  ...[
    "authorization",
    "cookie",
    "set-cookie",
    "content-encoding",
    "content-type",
    "content-range",
    "trailer",
  ],
  ...["cache-control", "expect", "range", "te", "location", "age", "date", "expires"],
]);

function refuse(status: number, reason: string): Refusal {
  return { status, reason };
}

function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    if (rawHeaders[at]!.toLowerCase() === name) values.push(rawHeaders[at + 1]!);
  }
  return values;
}

/** RFC 9112 section 6.1 and 6.3, without the leniencies. */
function readFraming(
  codings: readonly string[],
  lengths: readonly string[],
  httpVersion: string,
): Framing | Refusal {
  if (codings.length > 0) {
    if (lengths.length > 0) return refuse(400, "Content-Length beside Transfer-Encoding");
    if (httpVersion === "1.0") return refuse(400, "Transfer-Encoding in HTTP/1.0");
    const isChunked = codings.length === 1 && codings[0]!.toLowerCase() === "chunked";
    return isChunked ? "chunked" : refuse(501, "no transfer coding is understood but chunked");
  }
  if (lengths.length === 0) return "none";
  const length = Number(lengths[0]);
  const isNumber = lengths.length === 1 && /^\d+$/.test(lengths[0]!) && Number.isSafeInteger(length);
  return isNumber ? length : refuse(400, "Content-Length is not one number");
}

/** The header names that a Connection header lists; undefined when it is no list. */
function readConnection(values: readonly string[]): ReadonlySet<string> | undefined {
  const listed = new Set<string>();
  for (const value of values) {
    for (const part of value.split(",")) {
      const name = part.trim().toLowerCase();
      if (name === "") continue;
      if (!TOKENS.test(name)) return undefined;
      listed.add(name);
    }
  }
  return listed;
}

type Target = Pick<RequestHead, "target" | "path" | "authority" | "host">;

/** RFC 9112 section 3.2: which form a target may have depends on the method, and no two of its parts may disagree. */
function readTarget(method: string, url: string, hostField: string | undefined): Target | Refusal {
  if (hostField !== undefined && !AUTHORITY.test(hostField)) return refuse(400, "Host is not a host");
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/i.exec(url);
  const authority = absolute ? absolute[1]! : (hostField ?? "");
  if (absolute && !AUTHORITY.test(authority)) return refuse(400, "the target names no host");
  if (absolute && hostField !== undefined && hostField.toLowerCase() !== authority.toLowerCase())
    return refuse(400, "the target and Host name different hosts");
  const rest = absolute ? absolute[2]! : url;
  const host = authority.toLowerCase().replace(/:\d+$/, "").replace(/\.$/, "");
  if (rest === "*" && !absolute) {
    return method === "OPTIONS"
      ? { target: rest, path: "/", authority, host }
      : refuse(400, "only OPTIONS has the target *");
  }
  const target = absolute && !rest.startsWith("/") ? `/${rest}` : rest;
  if (!target.startsWith("/") || /[^\x21-\x7e]|[#\\]/.test(target))
    return refuse(400, "the target is not a path");
  return { target, path: resolvePath(target.split("?", 1)[0]!), authority, host };
}

/** A path with `.` and `..` followed, also where they are written as %2e, so that no detour leads around a route. */
function resolvePath(path: string): string {
  if (!/\/(\.|%2e)/i.test(path)) return path;
  const parts: string[] = [];
  const given = path.split("/").slice(1);
  for (const [index, part] of given.entries()) {
    const plain = part.replace(/%2e/gi, ".");
    if (plain === "..") parts.pop();
    if (plain !== "." && plain !== "..") parts.push(part);
    else if (index === given.length - 1) parts.push("");
  }
  return `/${parts.join("/")}`;
}
