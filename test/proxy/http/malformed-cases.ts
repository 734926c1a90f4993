/**
 * Requests that parsers have been known to disagree on, as bytes, each with what must become of it. `statuses` are those
 * of all answers on the connection, in order; whatever the origin gets besides must be one way to read it, see
 * strict-origin.ts. Sources: RFC 9112 sections 2 to 7 and 11.2, and published smuggling techniques (CL.TE, TE.CL, TE.TE,
 * TE.0, obs-fold, bare LF, chunk extensions).
 */
import type { SeenRequest } from "./strict-origin.ts";

export interface MalformedCase {
  readonly name: string;
  /** Latin-1. */
  readonly bytes: string;
  readonly statuses: readonly number[];
  /** Closes right after the bytes. */
  readonly closes?: true;
  /** What the origin must have got, where an answer of 200 does not say enough. */
  readonly sees?: (request: SeenRequest) => boolean;
}

const HOST = "Host: a.example";
const SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";

function get(...lines: readonly string[]): string {
  return `${["GET / HTTP/1.1", HOST, ...lines].join("\r\n")}\r\n\r\n`;
}

/** A POST whose body is given with what frames it. */
function post(lines: readonly string[], body: string): string {
  return `${["POST / HTTP/1.1", HOST, ...lines].join("\r\n")}\r\n\r\n${body}`;
}

const head = (...lines: readonly string[]): string => `${lines.join("\r\n")}\r\n\r\n`;
const chunked = (body: string): string => post(["Transfer-Encoding: chunked"], body);
const CHUNKS = "5\r\nhello\r\n0\r\n\r\n";
const hasBody =
  (body: string) =>
  (request: SeenRequest): boolean =>
    request.body === body;
const lacks =
  (name: string) =>
  (request: SeenRequest): boolean =>
    !request.headers.has(name);

const LENGTHS: readonly MalformedCase[] = [
  ["beside Transfer-Encoding", ["Content-Length: 5", "Transfer-Encoding: chunked"], CHUNKS],
  ["behind Transfer-Encoding", ["Transfer-Encoding: chunked", "Content-Length: 5"], CHUNKS],
  [
    "of a body that hides a request (CL.TE)",
    ["Content-Length: 6", "Transfer-Encoding: chunked"],
    `0\r\n\r\n${SMUGGLED}`,
  ],
  [
    "of a chunk only (TE.CL)",
    ["Content-Length: 4", "Transfer-Encoding: chunked"],
    `2b\r\n${SMUGGLED}\r\n0\r\n\r\n`,
  ],
  ["twice, the same", ["Content-Length: 5", "Content-Length: 5"], "hello"],
  ["twice, different", ["Content-Length: 5", "Content-Length: 6"], "hello!"],
  ["as a list of the same", ["Content-Length: 5, 5"], "hello"],
  ["as a list of different ones", ["Content-Length: 5, 6"], "hello!"],
  ["with a plus", ["Content-Length: +5"], "hello"],
  ["negative", ["Content-Length: -5"], "hello"],
  ["with a space inside", ["Content-Length: 5 5"], "hello"],
  ["in hexadecimal", ["Content-Length: 0x5"], "hello"],
  ["empty", ["Content-Length:"], "hello"],
  ["beyond 2^64", ["Content-Length: 18446744073709551621"], "hello"],
  ["with a vertical tab", ["Content-Length: 5\x0b"], "hello"],
  ["with a decimal point", ["Content-Length: 5.0"], "hello"],
  ["with a space before its colon", ["Content-Length : 5"], "hello"],
].map(([name, lines, body]) => ({
  name: `Content-Length ${name as string}`,
  bytes: post(lines as string[], body as string),
  statuses: [400],
}));

const CODINGS: readonly MalformedCase[] = (
  [
    ["twice", ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], [400]],
    ["a list of twice chunked", ["Transfer-Encoding: chunked, chunked"], [400]],
    ["gzip before chunked", ["Transfer-Encoding: gzip, chunked"], [501]],
    ["identity", ["Transfer-Encoding: identity"], [501]],
    ["identity before chunked", ["Transfer-Encoding: identity, chunked"], [501]],
    ["chunked before identity", ["Transfer-Encoding: chunked, identity"], [400]],
    ["unknown", ["Transfer-Encoding: xchunked"], [501]],
    ["cut short", ["Transfer-Encoding: chunke"], [501]],
    ["with a vertical tab", ["Transfer-Encoding: chunked\x0b"], [400]],
    ["behind a vertical tab", ["Transfer-Encoding: \x0bchunked"], [400]],
    ["in quotes", ['Transfer-Encoding: "chunked"'], [501]],
    ["with a parameter", ["Transfer-Encoding: chunked;q=1"], [501]],
    ["empty", ["Transfer-Encoding:"], [501]],
    ["with a space before its colon", ["Transfer-Encoding : chunked"], [400]],
    ["with a tab before its colon", ["Transfer-Encoding\t: chunked"], [400]],
    ["with a NUL in its name", ["Transfer-Encoding\0: chunked"], [400]],
    ["behind a bare LF", ["X: x\nTransfer-Encoding: chunked"], [400]],
    ["behind a bare CR", ["X: x\rTransfer-Encoding: chunked"], [400]],
    ["split over two headers (TE.TE)", ["Transfer-Encoding: chunked", "Transfer-Encoding: x"], [400]],
    [
      "once more with another spelling (TE.TE)",
      ["Transfer-Encoding: chunked", "Transfer-encoding: cow"],
      [400],
    ],
  ] as const
).map(([name, lines, statuses]) => ({
  name: `Transfer-Encoding ${name}`,
  bytes: post(lines, CHUNKS),
  statuses,
}));

const NORMALISED: readonly MalformedCase[] = [
  {
    name: "Content-Length in spaces",
    bytes: post(["Content-Length:  5 "], "hello"),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "Content-Length with zeros in front",
    bytes: post(["Content-Length: 0005"], "hello"),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "chunked in capitals",
    bytes: post(["Transfer-Encoding: CHUNKED"], CHUNKS),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "chunked in spaces",
    bytes: post(["Transfer-Encoding:  chunked  "], CHUNKS),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "chunked behind a tab",
    bytes: post(["Transfer-Encoding: \tchunked"], CHUNKS),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "a GET with a body",
    bytes: get("Content-Length: 5").concat("hello"),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "Transfer_Encoding beside Content-Length",
    bytes: post(["Content-Length: 5", "Transfer_Encoding: chunked"], "hello"),
    statuses: [200],
    sees: (request) => lacks("transfer_encoding")(request) && hasBody("hello")(request),
  },
  {
    name: "Content_Length",
    bytes: post(["Content-Length: 5", "Content_Length: 50"], "hello"),
    statuses: [200],
    sees: lacks("content_length"),
  },
  {
    name: "X_Forwarded_For",
    bytes: get("X_Forwarded_For: 10.0.0.1"),
    statuses: [200],
    sees: lacks("x_forwarded_for"),
  },
  { name: "an empty line before the request", bytes: `\r\n${get()}`, statuses: [200] },
  {
    name: "two spaces before the target",
    bytes: head("GET  /x HTTP/1.1", HOST),
    statuses: [200],
    sees: ({ target }) => target === "/x",
  },
  { name: "requests in a row", bytes: get() + get(), statuses: [200, 200] },
  {
    name: "a header that Connection names",
    bytes: get("Connection: close, X-Secret", "X-Secret: 1"),
    statuses: [200],
    sees: lacks("x-secret"),
  },
  {
    name: "Content-Length named by Connection",
    bytes: post(["Connection: Content-Length", "Content-Length: 5"], "hello"),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "Keep-Alive, TE and Proxy-Connection",
    bytes: get("Keep-Alive: 5", "TE: trailers", "Proxy-Connection: x"),
    statuses: [200],
    sees: (request) =>
      lacks("te")(request) && lacks("keep-alive")(request) && lacks("proxy-connection")(request),
  },
  {
    name: "an upgrade to h2c",
    bytes: get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    statuses: [200],
    sees: (request) => lacks("upgrade")(request) && lacks("http2-settings")(request),
  },
  {
    name: "an upgrade of a request with a body",
    bytes: post(["Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5"], "hello"),
    statuses: [200],
    sees: (request) => lacks("upgrade")(request) && hasBody("hello")(request),
  },
  {
    name: "two values of one header",
    bytes: get("X-A: 1", "X-A: 2"),
    statuses: [200],
    sees: ({ headers }) => headers.get("x-a") === "1, 2",
  },
  {
    name: "bytes above ASCII in a value",
    bytes: get("X-A: \xe9\xff"),
    statuses: [200],
    sees: ({ headers }) => headers.get("x-a") === "\xe9\xff",
  },
  {
    name: "a target with host that Host agrees with",
    bytes: head("GET http://a.example/x?y HTTP/1.1", HOST),
    statuses: [200],
    sees: ({ target }) => target === "/x?y",
  },
  {
    name: "a target with host and no path",
    bytes: head("GET http://A.example HTTP/1.1", HOST),
    statuses: [200],
    sees: ({ target }) => target === "/",
  },
  {
    name: "OPTIONS *",
    bytes: head("OPTIONS * HTTP/1.1", HOST),
    statuses: [200],
    sees: ({ target }) => target === "*",
  },
  {
    name: "HTTP/1.0 without Host",
    bytes: head("GET / HTTP/1.0"),
    statuses: [200],
    sees: ({ version }) => version === "1.1",
  },
];

const SYNTAX: readonly MalformedCase[] = (
  [
    ["a header without a colon", get("X-A"), 400],
    ["a header without a name", get(": x"), 400],
    ["a space in a header's name", get("X A: x"), 400],
    ["a byte above ASCII in a header's name", get("X\xff: x"), 400],
    ["a NUL in a value", get("X-A: a\0b"), 400],
    ["a control character in a value", get("X-A: a\x01b"), 400],
    ["a DEL in a value", get("X-A: a\x7fb"), 400],
    ["a folded line before all headers", "GET / HTTP/1.1\r\n X: x\r\nHost: a.example\r\n\r\n", 400],
    ["a bare LF behind the request line", "GET / HTTP/1.1\nHost: a.example\r\n\r\n", 400],
    ["bare LFs only", "GET / HTTP/1.1\nHost: a.example\n\n", 400],
    ["a bare LF behind a header", "GET / HTTP/1.1\r\nHost: a.example\nX: x\r\n\r\n", 400],
    ["a bare LF as the last line", "GET / HTTP/1.1\r\nHost: a.example\r\n\n", 400],
    ["a bare CR behind a header", "GET / HTTP/1.1\r\nHost: a.example\rX: x\r\n\r\n", 400],
    ["no target", head("GET HTTP/1.1", HOST), 400],
    ["a tab before the target", head("GET\t/ HTTP/1.1", HOST), 400],
    ["something behind the version", head("GET / HTTP/1.1 x", HOST), 400],
    ["a space in the target", head("GET /a b HTTP/1.1", HOST), 400],
    ["a control character in the target", head("GET /a\x01b HTTP/1.1", HOST), 400],
    ["a byte above ASCII in the target", head("GET /\xff HTTP/1.1", HOST), 400],
    ["a fragment in the target", head("GET /a#b HTTP/1.1", HOST), 400],
    ["a backslash in the target", head("GET /a\\..\\b HTTP/1.1", HOST), 400],
    ["a target without a slash", head("GET a HTTP/1.1", HOST), 400],
    ["GET *", head("GET * HTTP/1.1", HOST), 400],
    ["another version", head("GET / HTTP/1.2", HOST), 400],
    ["HTTP/2 as a version", head("GET / HTTP/2.0", HOST), 505],
    ["the version of HTTP/0.9", "GET /\r\n\r\n", 505],
    ["a version in small letters", head("GET / http/1.1", HOST), 400],
    ["a method in small letters", head("get / HTTP/1.1", HOST), 400],
    ["an unknown method", head("SMUGGLE / HTTP/1.1", HOST), 400],
    ["the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400],
    ["the first bytes of TLS", "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400],
    ["CONNECT", head("CONNECT a.example:443 HTTP/1.1", HOST), 405],
    ["TRACE", head("TRACE / HTTP/1.1", HOST), 405],
    ["an expectation nobody knows", get("Expect: 200-ok"), 417],
    ["Connection that names Host", get("Connection: Host"), 400],
    ["Connection that is no list", get("Connection: a b;c"), 400],
  ] as const
).map(([name, bytes, status]) => ({ name, bytes, statuses: [status] }));

const HOSTS: readonly MalformedCase[] = (
  [
    ["missing", head("GET / HTTP/1.1")],
    ["twice", head("GET / HTTP/1.1", HOST, "Host: b.example")],
    ["twice the same", head("GET / HTTP/1.1", HOST, HOST)],
    ["empty", head("GET / HTTP/1.1", "Host:")],
    ["with a space", head("GET / HTTP/1.1", "Host: a.example b.example")],
    ["a list", head("GET / HTTP/1.1", "Host: a.example,b.example")],
    ["with a user", head("GET / HTTP/1.1", "Host: b@a.example")],
    ["with a path", head("GET / HTTP/1.1", "Host: a.example/x")],
    ["with a port that is none", head("GET / HTTP/1.1", "Host: a.example:b")],
    ["with a space before its colon", head("GET / HTTP/1.1", "Host : a.example")],
    ["other than in the target", head("GET http://b.example/ HTTP/1.1", HOST)],
    ["with a user in the target", head("GET http://b@a.example/ HTTP/1.1", HOST)],
    ["of another scheme", head("GET ftp://a.example/ HTTP/1.1", HOST)],
    ["empty in the target", head("GET http:/// HTTP/1.1", HOST)],
  ] as const
).map(([name, bytes]) => ({ name: `Host ${name}`, bytes, statuses: [400] }));

const CHUNKINGS: readonly MalformedCase[] = [
  ...(
    [
      ["in hexadecimal with prefix", "0x5\r\nhello\r\n0\r\n\r\n"],
      ["beyond 2^64", "10000000000000005\r\nhello\r\n0\r\n\r\n"],
      ["negative", "-5\r\nhello\r\n0\r\n\r\n"],
      ["empty", "\r\nhello\r\n0\r\n\r\n"],
      ["behind a space", " 5\r\nhello\r\n0\r\n\r\n"],
      ["with a letter that is no digit", "5g\r\nhello\r\n0\r\n\r\n"],
      ["smaller than its chunk", "4\r\nhello\r\n0\r\n\r\n"],
      ["ended by a bare LF", "5\nhello\r\n0\r\n\r\n"],
      ["of a chunk ended by a bare LF", "5\r\nhello\n0\r\n\r\n"],
      ["with an extension ended by a bare LF", "5;a\nhello\r\n0\r\n\r\n"],
      ["with an extension ended by a bare CR", "5;a\rhello\r\n0\r\n\r\n"],
      ["with a NUL in its extension", "5;a\0\r\nhello\r\n0\r\n\r\n"],
    ] as const
  ).map(([name, body]) => ({ name: `chunk size ${name}`, bytes: chunked(body), statuses: [400] })),
  {
    name: "chunk extensions",
    bytes: chunked("5;a=b;c\r\nhello\r\n0;d\r\n\r\n"),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "chunk extensions without end",
    bytes: chunked(`5;${"a".repeat(20_000)}\r\nhello\r\n0\r\n\r\n`),
    statuses: [413],
  },
  {
    name: "chunk size with zeros in front",
    bytes: chunked("00005\r\nhello\r\n000\r\n\r\n"),
    statuses: [200],
    sees: hasBody("hello"),
  },
  {
    name: "trailers",
    bytes: chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
    statuses: [200],
    sees: ({ trailers }) => trailers.get("x-sum") === "1",
  },
  {
    name: "a trailer that frames",
    bytes: chunked("5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n"),
    statuses: [400],
  },
  {
    name: "trailers that route or vouch",
    bytes: chunked("5\r\nhello\r\n0\r\nHost: b\r\nX-Forwarded-For: 1\r\nAuthorization: x\r\n\r\n"),
    statuses: [200],
    sees: ({ trailers }) => trailers.size === 0,
  },
  { name: "a request behind the last chunk", bytes: chunked(`0\r\n\r\n${get()}`), statuses: [200, 200] },
];

const SIZES: readonly MalformedCase[] = [
  { name: "a header of 20 KB", bytes: get(`X-A: ${"a".repeat(20_000)}`), statuses: [431] },
  {
    name: "3,000 headers",
    bytes: get(...Array.from({ length: 3_000 }, (_, at) => `X${at}: 1`)),
    statuses: [431],
  },
  { name: "a target of 20 KB", bytes: head(`GET /${"a".repeat(20_000)} HTTP/1.1`, HOST), statuses: [431] },
  { name: "a header name of 20 KB", bytes: get(`${"a".repeat(20_000)}: a`), statuses: [431] },
  { name: "a body that is cut off", bytes: post(["Content-Length: 5"], "hel"), statuses: [], closes: true },
  { name: "chunks that are cut off", bytes: chunked("5\r\nhello\r\n"), statuses: [], closes: true },
  { name: "a head that is cut off", bytes: "GET / HTTP/1.1\r\nHost: a.exa", statuses: [], closes: true },
];

const FOLDED: readonly MalformedCase[] = [
  {
    name: "a folded header",
    bytes: get("X-A: a\r\n b"),
    statuses: [400],
  },
  {
    name: "a folded Transfer-Encoding",
    bytes: post(["Transfer-Encoding:\r\n chunked"], CHUNKS),
    statuses: [400],
  },
  {
    name: "a folded Content-Length",
    bytes: post(["Content-Length: 1\r\n 0"], "hello worl"),
    statuses: [400],
  },
  { name: "rubbish behind a request", bytes: `${get()}rubbish\r\n\r\n`, statuses: [200] },
];

export const MALFORMED_CASES: readonly MalformedCase[] = [
  ...LENGTHS,
  ...CODINGS,
  ...CHUNKINGS,
  ...HOSTS,
  ...SYNTAX,
  ...SIZES,
  ...FOLDED,
  ...NORMALISED,
];
