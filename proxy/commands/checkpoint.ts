import { resolve } from "node:path";
import type { AdminAddress, Command } from "../args.ts";
import { AccelproxyError } from "../errors.ts";
import { type AdminAnswer, askAdmin, unexpected } from "./admin-client.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./output.ts";

/** Large queues on a slow disk; the proxy itself gives up before. */
const TIMEOUT_MS = 300_000;

/** `accelproxy checkpoint`: has the running proxy put its sessions away and end. Exit 1 when it goes on instead. */
export async function checkpoint(
  { goal, admin }: Pick<Extract<Command, { kind: "checkpoint" }>, "goal" | "admin">,
  { stdout, stderr }: Output,
): Promise<ExitCode> {
  try {
    const asking = {
      method: "POST",
      path: "/checkpoint",
      body: absolute(goal),
      timeoutMs: TIMEOUT_MS,
    } as const;
    const { sessions, leftOut, to, durationMs } = readAnswer(admin, await askAdmin(admin, asking));
    const count = `${sessions} ${sessions === 1 ? "session" : "sessions"}`;
    stdout(`${count} in ${Math.round(durationMs)} ms: ${to}\n`);
    for (const { listener, why } of leftOut)
      stderr(errorLine(`a session of ${listener} is left out: ${why}`));
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof AccelproxyError)) throw error;
    stderr(errorLine(error.message));
    return EXIT.failed;
  }
}

/** Its paths as the proxy can use them, whose working directory is another. */
function absolute(goal: Extract<Command, { kind: "checkpoint" }>["goal"]) {
  return "dir" in goal ? { dir: resolve(goal.dir) } : { to: { ...goal.to, keys: resolve(goal.to.keys) } };
}

interface Done {
  readonly sessions: number;
  readonly leftOut: readonly { readonly listener: string; readonly why: string }[];
  /** File or host. */
  readonly to: string;
  readonly durationMs: number;
}

function readAnswer(admin: AdminAddress, { status, text }: AdminAnswer): Done {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw unexpected(admin, "answers something else", cause);
  }
  if (typeof value !== "object" || value === null) throw unexpected(admin, "answers something else");
  if (status === 200 && "sessions" in value) return value as Done;
  if ("error" in value)
    throw new AccelproxyError("ACCEL_CHECKPOINT", `no checkpoint: ${String(value.error)}`);
  throw unexpected(admin, `answers ${status}`);
}
