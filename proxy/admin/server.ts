import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type pino from "pino";
import { type AdminBind, formatAdminBind, isLoopback } from "../../config/addresses.ts";
import type { Config } from "../../config/schema.ts";
import type { Fd } from "../../native/fd.ts";
import { Seldom } from "../../pool/seldom.ts";
import { AccelproxyError } from "../errors.ts";
import type { ProxyView } from "../status.ts";
import { type CheckpointGoal, readGoal } from "./checkpoint-goal.ts";
import { formatMetrics, METRICS_CONTENT_TYPE } from "./metrics.ts";
import { formatPage, PAGE_FILES, PAGE_POLICY } from "./page/page.ts";
import { bindError, privately, removeStaleSocket } from "./socket.ts";

/**
 * The admin interface: HTTP on a unix socket with mode 0600, or on TCP. It asks for no password, so on TCP it
 * refuses what a web page could make a browser send: a Host that is not ours (DNS rebinding) and a POST from
 * another origin. It listens before the proxy runs, and answers 503 until then.
 */

type AdminConfig = NonNullable<Config["admin"]>;

export interface AdminOptions {
  readonly config: AdminConfig;
  /** A socket that listens there already, which becomes the server's. */
  readonly socket?: Fd | undefined;
  /** The running proxy; undefined while it starts. */
  readonly view: () => ProxyView | undefined;
  /**
   * Puts all sessions away. `end` is called when the answer is out. Rejects with AccelproxyError when the
   * proxy goes on instead.
   */
  readonly checkpoint: (
    goal: CheckpointGoal,
  ) => Promise<{ readonly done: unknown; readonly end: () => void }>;
  /** Stops accepting, as SIGTERM does; how many sessions there still are. */
  readonly drain: () => number;
  readonly log: pino.Logger;
}

// Requests are a line and a few headers; answers are made at once.
const HEADER_BYTES_MAX = 8 * 1024;
const BODY_BYTES_MAX = 64 * 1024;
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_TIMEOUT_MS = 5_000;
const CHECK_INTERVAL_MS = 1_000;
const CONNECTIONS_MAX = 64;
const WARNING_INTERVAL_MS = 10_000;

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Called when the answer is out, or its reader has gone. */
  readonly afterwards?: () => void;
}

/** What a route is asked with. */
interface Asked {
  readonly body: string;
  readonly checkpoint: AdminOptions["checkpoint"];
  readonly drain: AdminOptions["drain"];
}

interface Route {
  readonly method: "GET" | "POST";
  /** undefined: a part of the interface that this version does not have. */
  readonly answer: ((view: ProxyView, asked: Asked) => Answer | Promise<Answer>) | undefined;
}

const ROUTES: Readonly<Record<string, Route>> = {
  "/healthz": { method: "GET", answer: () => json(200, { ok: true }) },
  "/readyz": { method: "GET", answer: (view) => readyz(view.readiness().reasons) },
  "/status": { method: "GET", answer: (view) => json(200, view.status()) },
  "/metrics": {
    method: "GET",
    answer: async (view) => ({
      status: 200,
      type: METRICS_CONTENT_TYPE,
      body: await formatMetrics(view.metrics()),
    }),
  },
  "/reload": { method: "POST", answer: reload },
  "/checkpoint": { method: "POST", answer: (_, asked) => checkpoint(asked) },
  "/drain": { method: "POST", answer: (_, { drain }) => json(200, { ok: true, active: drain() }) },
  "/": { method: "GET", answer: page },
  ...Object.fromEntries(
    Object.entries(PAGE_FILES).map(([path, file]) => [
      path,
      { method: "GET", answer: () => ({ status: 200, ...file }) },
    ]),
  ),
};

const PATHS_THERE = Object.keys(ROUTES).filter((path) => ROUTES[path]?.answer !== undefined);

export class AdminServer {
  readonly #server: Server;
  /** unix:PATH or IP:PORT as bound. */
  readonly address: string;

  private constructor(server: Server, address: string) {
    this.#server = server;
    this.address = address;
  }

  /**
   * Listens. A unix socket that a dead process left is replaced. Throws StartError: ACCEL_ADDRESS_IN_USE when
   * someone listens there, or as listenError() says.
   */
  static async start(options: AdminOptions): Promise<AdminServer> {
    const { bind } = options.config;
    const address = formatAdminBind(bind);
    const { socket } = options;
    if (bind.kind === "unix" && socket === undefined) await removeStaleSocket(bind.path);
    const server = newServer(options);
    try {
      await listen(server, bind, socket);
    } catch (error) {
      throw bindError(bind, error);
    }
    // A later failure to accept (EMFILE) is no reason to end the proxy.
    const failures = new Seldom(WARNING_INTERVAL_MS);
    server.on("error", (err) => {
      const unsaid = failures.due(performance.now());
      if (unsaid !== undefined)
        options.log.warn({ err, unsaid }, "admin interface cannot accept a connection");
    });
    const bound = server.address();
    if (bind.kind === "unix" || typeof bound !== "object" || bound === null) {
      return new AdminServer(server, address);
    }
    return new AdminServer(server, formatAdminBind({ ...bind, port: bound.port }));
  }

  /** Stops at once, open connections included, and removes the unix socket. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

function newServer({ config, view, checkpoint, drain, log }: AdminOptions): Server {
  const limits = {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
  };
  const isOpen = config.bind.kind === "unix" || config.allowRemote;
  const server = createServer(limits, (request, response) => {
    answer(request, isOpen, view, { checkpoint, drain }).then(
      (result) => send(request, response, result),
      (err: unknown) => {
        if (request.socket.destroyed) return; // the client went away
        log.error({ err, path: request.url }, "admin request failed");
        send(request, response, json(500, { error: "internal error (the log says more)" }));
      },
    );
  });
  server.maxConnections = CONNECTIONS_MAX;
  return server;
}

async function answer(
  request: IncomingMessage,
  isOpen: boolean,
  view: AdminOptions["view"],
  verbs: Pick<AdminOptions, "checkpoint" | "drain">,
): Promise<Answer & { readonly allow?: string }> {
  const { host, origin } = request.headers;
  if (!isOpen && host !== undefined && !isOurHost(host)) {
    return json(421, { error: "the Host header is not this interface (use its IP address or localhost)" });
  }
  const path = (request.url ?? "").split("?", 1)[0]!;
  const route = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined;
  if (route === undefined) return json(404, { error: `nothing at ${path}`, paths: PATHS_THERE });
  if (route.answer === undefined) {
    return json(404, { error: `${path} is not supported yet`, paths: PATHS_THERE });
  }
  const methods = route.method === "GET" ? ["GET", "HEAD"] : ["POST"];
  if (!methods.includes(request.method ?? "")) {
    const allow = methods.join(", ");
    return { ...json(405, { error: `${path} takes ${allow}` }), allow };
  }
  if (route.method === "POST" && origin !== undefined) {
    return json(403, { error: "web pages may not ask this (send it without an Origin header)" });
  }
  const body = await readBody(request);
  if (body === undefined) return json(413, { error: "the body is too large (send none)" });
  const proxy = view();
  if (proxy !== undefined) return route.answer(proxy, { body, ...verbs });
  if (path === "/healthz") return json(200, { ok: true });
  return path === "/readyz"
    ? readyz(["the proxy is starting"])
    : json(503, { error: "the proxy is starting" });
}

/** Reads the body to its end; undefined when it is too large. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    const bytes = Buffer.from(chunk);
    length += bytes.length;
    if (length > BODY_BYTES_MAX) return undefined;
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, type, body, allow, headers, afterwards }: Answer & { readonly allow?: string },
): void {
  if (afterwards !== undefined) response.once("close", afterwards);
  if (!request.complete) response.setHeader("connection", "close");
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    ...headers,
    ...(allow !== undefined && { allow }),
  });
  response.end(body);
}

function json(status: number, value: unknown): Answer {
  return { status, type: "application/json; charset=utf-8", body: `${JSON.stringify(value)}\n` };
}

function readyz(reasons: readonly string[]): Answer {
  return json(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
}

async function reload(view: ProxyView): Promise<Answer> {
  const result = await view.reload();
  return json(result.ok ? 200 : 422, result);
}

function page(view: ProxyView): Answer {
  return {
    status: 200,
    type: "text/html; charset=utf-8",
    body: formatPage(view.status(), view.readiness()),
    headers: { "content-security-policy": PAGE_POLICY, "referrer-policy": "no-referrer" },
  };
}

async function checkpoint({ body, checkpoint: put }: Asked): Promise<Answer> {
  const goal = readGoal(body);
  if (goal === undefined) return json(400, { error: 'no goal (send {"dir": "/an/absolute/path"})' });
  try {
    const { done, end } = await put(goal);
    return { ...json(200, done), afterwards: end };
  } catch (error) {
    if (!(error instanceof AccelproxyError)) throw error;
    return json(422, { error: error.message, code: error.code });
  }
}

/** A name that an attacker's DNS could point here is none of these. */
function isOurHost(header: string): boolean {
  const host = hostOf(header);
  return host === "localhost" || isLoopback(host);
}

/** The host of a Host header, without brackets and port; "" when it is none. */
function hostOf(header: string): string {
  const parts = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::\d*)?$/.exec(header);
  return (parts?.[1] ?? parts?.[2] ?? "").toLowerCase();
}

function listen(server: Server, bind: AdminBind, socket: Fd | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    const ready = () => {
      server.off("error", reject);
      resolve();
    };
    if (socket !== undefined) server.listen({ fd: socket.release() }, ready);
    else if (bind.kind === "tcp") server.listen({ host: bind.host, port: bind.port }, ready);
    else privately(() => server.listen({ path: bind.path }, ready));
  });
}
