/** Asks the admin interface of a running proxy. */
import { type IncomingMessage, request } from "node:http";
import { formatAdminBind } from "../../config/addresses.ts";
import type { AdminAddress } from "../args.ts";
import { AccelproxyError, errorSymbol } from "../errors.ts";

const ANSWER_BYTES_MAX = 16 * 1024 * 1024;

export interface AdminRequest {
  readonly method: "GET" | "POST";
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly timeoutMs: number;
  readonly stop?: AbortSignal;
}

export interface AdminAnswer {
  readonly status: number;
  readonly text: string;
}

/** The answer, whatever its status. Rejects with AccelproxyError ACCEL_ADMIN_UNREACHABLE or ACCEL_ADMIN_ANSWER. */
export function askAdmin(admin: AdminAddress, asking: AdminRequest): Promise<AdminAnswer> {
  const { method, path, body, timeoutMs, stop } = asking;
  const place = admin.kind === "unix" ? { socketPath: admin.path } : { host: admin.host, port: admin.port };
  const timeout = AbortSignal.timeout(timeoutMs);
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        ...place,
        method,
        path,
        // The interface answers to localhost and IP addresses, whatever name led here.
        headers: { host: "localhost", connection: "close" },
        signal: stop === undefined ? timeout : AbortSignal.any([stop, timeout]),
      },
      (response) => {
        readBody(response).then(
          (text) => resolve({ status: response.statusCode ?? 0, text }),
          (error: Error) =>
            reject(error instanceof AccelproxyError ? error : unreachable(admin, error, timeoutMs)),
        );
      },
    );
    asked.on("error", (error) => reject(unreachable(admin, error, timeoutMs)));
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    const bytes = Buffer.from(chunk);
    length += bytes.length;
    if (length > ANSWER_BYTES_MAX) throw new AccelproxyError("ACCEL_ADMIN_ANSWER", "the answer is too large");
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such socket (start accelproxy with an admin section, or give --admin ADDRESS)",
  ECONNREFUSED: "nothing listens there (start accelproxy with an admin section, or give --admin ADDRESS)",
  EACCES: "this user may not open it (run as the user that accelproxy runs as)",
  ENOTFOUND: "the name has no address (check --admin)",
};

function unreachable(admin: AdminAddress, cause: Error, timeoutMs: number): AccelproxyError {
  const symbol = errorSymbol(cause);
  const silence = `no answer within ${timeoutMs / 1_000} s (is it accelproxy that listens there?)`;
  const reason = symbol === "ABORT_ERR" ? silence : (REASONS[symbol] ?? `${symbol} (check --admin ADDRESS)`);
  return new AccelproxyError("ACCEL_ADMIN_UNREACHABLE", `${formatAdminBind(admin)}: ${reason}`, { cause });
}

/** The interface said something that no accelproxy says. */
export function unexpected(admin: AdminAddress, what: string, cause?: unknown): AccelproxyError {
  const message = `${formatAdminBind(admin)} ${what} (is it the admin interface of accelproxy?)`;
  return new AccelproxyError("ACCEL_ADMIN_ANSWER", message, { cause });
}
