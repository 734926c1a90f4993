import { loadConfig } from "../../config/load.ts";
import { formatProblem } from "../../config/problems.ts";
import { SyscallError } from "../../native/errno.ts";
import { GuardError } from "../../native/guard/guard-error.ts";
import type { Command } from "../args.ts";
import { applyInterception, printInterception, removeInterception } from "../intercept/intercept.ts";
import { GRANT } from "../privileges.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./output.ts";

/** `accelproxy intercept`: rules and routes that bring connections to the transparent listeners of a file. */
export async function intercept(
  { configFile, action }: Extract<Command, { kind: "intercept" }>,
  { stdout, stderr }: Output,
): Promise<ExitCode> {
  const loaded = await loadConfig(configFile);
  if (!loaded.ok) {
    for (const problem of loaded.problems) stderr(`${formatProblem(problem)}\n`);
    return EXIT.usage;
  }
  try {
    if (action === "print") stdout(printInterception(loaded.config));
    else if (action === "apply") applyInterception(loaded.config);
    else removeInterception();
    return EXIT.done;
  } catch (error) {
    if (error instanceof RangeError) {
      stderr(errorLine(`${error.message} (give the listener one)`));
      return EXIT.usage;
    }
    const isDenied =
      (error instanceof GuardError && error.code === "ACCEL_GUARD_DENIED") ||
      (error instanceof SyscallError && error.code === "EPERM");
    if (!isDenied && !(error instanceof GuardError || error instanceof SyscallError)) throw error;
    stderr(errorLine(isDenied ? `rules cannot be changed without CAP_NET_ADMIN (${GRANT})` : error.message));
    return isDenied ? EXIT.privilege : EXIT.failed;
  }
}
