import { type IncomingMessage, request } from "node:http";
import { formatAdminBind } from "../../config/addresses.ts";
import type { AdminAddress } from "../args.ts";
import { AccelproxyError, errorSymbol } from "../errors.ts";
import type { Status } from "../status.ts";
import { formatStatus } from "../status-table.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./output.ts";

export interface StatusOptions {
  readonly admin: AdminAddress;
  readonly json: boolean;
  readonly watch: boolean;
  /** stdout is a terminal, whose screen --watch may clear. */
  readonly isTerminal: boolean;
  /** Ends --watch. */
  readonly stop: AbortSignal;
}

const TIMEOUT_MS = 5_000;
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;
const INTERVAL_MS = 1_000;
const CLEAR_SCREEN = "\x1b[H\x1b[2J\x1b[3J";

/** `accelproxy status`: what a running proxy says, once or every second. Exit 1 when it cannot be asked. */
export async function status(options: StatusOptions, { stdout, stderr }: Output): Promise<ExitCode> {
  const { admin, json, watch, isTerminal, stop } = options;
  try {
    for (let first = true; !stop.aborted; first = false) {
      const text = await fetchStatus(admin, stop);
      const shown = json ? `${text.trimEnd()}\n` : formatStatus(readStatus(text, admin));
      const isScreen = watch && isTerminal && !json;
      stdout(isScreen ? CLEAR_SCREEN + shown : first || json ? shown : `\n${shown}`);
      if (!watch) break;
      await pause(INTERVAL_MS, stop);
    }
    return EXIT.done;
  } catch (error) {
    if (stop.aborted) return EXIT.done;
    if (!(error instanceof AccelproxyError)) throw error;
    stderr(errorLine(error.message));
    return EXIT.failed;
  }
}

/** The body of GET /status. Throws AccelproxyError ACCEL_ADMIN_UNREACHABLE or ACCEL_ADMIN_ANSWER. */
function fetchStatus(admin: AdminAddress, stop: AbortSignal): Promise<string> {
  const place = admin.kind === "unix" ? { socketPath: admin.path } : { host: admin.host, port: admin.port };
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        ...place,
        path: "/status",
        // The interface answers to localhost and IP addresses, whatever name led here.
        headers: { host: "localhost", connection: "close" },
        signal: AbortSignal.any([stop, AbortSignal.timeout(TIMEOUT_MS)]),
      },
      (response) => {
        readBody(response).then(
          (body) => {
            if (response.statusCode === 200) resolve(body);
            else reject(unexpected(admin, `answers ${response.statusCode}`));
          },
          (error: Error) => reject(error instanceof AccelproxyError ? error : unreachable(admin, error)),
        );
      },
    );
    asked.on("error", (error) => reject(unreachable(admin, error)));
    asked.end();
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

function readStatus(text: string, admin: AdminAddress): Status {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && "listeners" in value && "pools" in value) {
      return value as Status;
    }
  } catch (cause) {
    throw unexpected(admin, "answers something else", cause);
  }
  throw unexpected(admin, "answers something else");
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such socket (start accelproxy with an admin section, or give --admin ADDRESS)",
  ECONNREFUSED: "nothing listens there (start accelproxy with an admin section, or give --admin ADDRESS)",
  EACCES: "this user may not open it (run as the user that accelproxy runs as)",
  ENOTFOUND: "the name has no address (check --admin)",
  ABORT_ERR: "no answer within 5 s (is it accelproxy that listens there?)",
};

function unreachable(admin: AdminAddress, cause: Error): AccelproxyError {
  const symbol = errorSymbol(cause);
  const reason = REASONS[symbol] ?? `${symbol} (check --admin ADDRESS)`;
  return new AccelproxyError("ACCEL_ADMIN_UNREACHABLE", `${formatAdminBind(admin)}: ${reason}`, { cause });
}

function unexpected(admin: AdminAddress, what: string, cause?: unknown): AccelproxyError {
  const message = `${formatAdminBind(admin)} ${what} (is it the admin interface of accelproxy?)`;
  return new AccelproxyError("ACCEL_ADMIN_ANSWER", message, { cause });
}

function pause(delayMs: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      stop.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, delayMs);
    stop.addEventListener("abort", end);
  });
}
