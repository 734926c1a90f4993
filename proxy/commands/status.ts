import type { AdminAddress } from "../args.ts";
import { AccelproxyError } from "../errors.ts";
import type { Status } from "../status.ts";
import { formatStatus } from "../status-table.ts";
import { askAdmin, unexpected } from "./admin-client.ts";
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

/** The body of GET /status. Rejects with AccelproxyError. */
async function fetchStatus(admin: AdminAddress, stop: AbortSignal): Promise<string> {
  const asking = { method: "GET", path: "/status", timeoutMs: TIMEOUT_MS, stop } as const;
  const { status, text } = await askAdmin(admin, asking);
  if (status !== 200) throw unexpected(admin, `answers ${status}`);
  return text;
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
