import type { AdminAddress } from "../args.ts";
import { AccelproxyError } from "../errors.ts";
import type { Status } from "../status.ts";
import { formatStatus } from "../status-table.ts";
import { askAdmin, unexpected } from "./admin-client.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./output.ts";
import { Screen, type Terminal } from "./screen.ts";

export interface StatusOptions {
  readonly admin: AdminAddress;
  readonly json: boolean;
  readonly watch: boolean;
  /** Where --watch draws; undefined when stdout is none: then a block follows the other. */
  readonly terminal: Terminal | undefined;
  /** Ends --watch. */
  readonly stop: AbortSignal;
}

const TIMEOUT_MS = 5_000;
const INTERVAL_MS = 1_000;

/** `accelproxy status`: what a running proxy says, once or every second. Exit 1 when it cannot be asked at first. */
export async function status(options: StatusOptions, { stdout, stderr }: Output): Promise<ExitCode> {
  try {
    const shown = await ask(options, options.stop);
    if (!options.watch) stdout(shown);
    else if (options.terminal === undefined || options.json) await repeat(options, shown, { stdout, stderr });
    else await watch(options, options.terminal, shown);
    return EXIT.done;
  } catch (error) {
    if (options.stop.aborted) return EXIT.done;
    if (!(error instanceof AccelproxyError)) throw error;
    stderr(errorLine(error.message));
    return EXIT.failed;
  }
}

/** A block an interval; a line on stderr where there is none. */
async function repeat(options: StatusOptions, first: string, { stdout, stderr }: Output): Promise<void> {
  stdout(first);
  for await (const answer of answers(options, options.stop)) {
    if (!answer.ok) stderr(errorLine(answer.text));
    else stdout(options.json ? answer.text : `\n${answer.text}`);
  }
}

/** The screen, until q or Ctrl-C. A proxy that goes away leaves its last figures, which is said. */
async function watch(options: StatusOptions, terminal: Terminal, first: string): Promise<void> {
  const quit = new AbortController();
  const screen = new Screen(terminal, () => quit.abort());
  let last = first;
  try {
    screen.draw(first);
    for await (const answer of answers(options, AbortSignal.any([options.stop, quit.signal]))) {
      if (answer.ok) last = answer.text;
      screen.draw(answer.ok ? last : `${answer.text}\n\n${last}`);
    }
  } finally {
    screen.close();
  }
}

/** What it says from the next interval on. An upgrade or a restart makes it silent for a while, which is no end. */
async function* answers(
  options: StatusOptions,
  stop: AbortSignal,
): AsyncGenerator<{ readonly ok: boolean; readonly text: string }> {
  for (;;) {
    await pause(INTERVAL_MS, stop);
    if (stop.aborted) return;
    try {
      yield { ok: true, text: await ask(options, stop) };
    } catch (error) {
      if (stop.aborted) return;
      if (!(error instanceof AccelproxyError)) throw error;
      yield { ok: false, text: error.message };
    }
  }
}

/** One answer as it is shown. Rejects with AccelproxyError. */
async function ask({ admin, json }: StatusOptions, stop: AbortSignal): Promise<string> {
  const asking = { method: "GET", path: "/status", timeoutMs: TIMEOUT_MS, stop } as const;
  const { status, text } = await askAdmin(admin, asking);
  if (status !== 200) throw unexpected(admin, `answers ${status}`);
  return json ? `${text.trimEnd()}\n` : formatStatus(readStatus(text, admin));
}

function readStatus(text: string, admin: AdminAddress): Status {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && PARTS.every((part) => part in value)) {
      return value as Status;
    }
  } catch (cause) {
    throw unexpected(admin, "answers something else", cause);
  }
  throw unexpected(admin, "answers something else");
}

const PARTS = ["listeners", "pools", "saved", "firstByte", "events"];

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
