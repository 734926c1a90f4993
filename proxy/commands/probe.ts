import { AccelproxyError } from "../errors.ts";
import { checkPrivileges, type MissingPrivilege } from "../privileges.ts";
import { type ProbeTarget, probe } from "../probe/probe.ts";
import { formatReport } from "../probe/report.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./output.ts";

export interface ProbeCommand {
  readonly target: ProbeTarget;
  readonly count: number;
  readonly lifetime: boolean;
  readonly json: boolean;
  /** stderr is a terminal, which shows progress. */
  readonly isTerminal: boolean;
  /** Ends the probe early, with its half-opens released. */
  readonly stop: AbortSignal;
}

const CLEAR_LINE = "\r\x1b[K";

/** `accelproxy probe`: exit 0 when it measured, 1 when the upstream cannot be reached, 77 without the capabilities. */
export async function runProbe(command: ProbeCommand, { stdout, stderr }: Output): Promise<ExitCode> {
  const { target, count, lifetime, json, isTerminal, stop } = command;
  const { missing } = checkPrivileges();
  if (missing.length > 0) {
    stderr(errorLine(explain(missing)));
    return EXIT.privilege;
  }
  const onProgress = (line: string) => {
    if (isTerminal) stderr(`${CLEAR_LINE}${line}`);
  };
  const clear = () => onProgress("");
  try {
    const report = await probe(target, { count, lifetime, stop, onProgress });
    clear();
    stdout(json ? `${JSON.stringify(report, toMicroseconds, 2)}\n` : formatReport(report));
    return EXIT.done;
  } catch (error) {
    clear();
    if (!stop.aborted && !(error instanceof AccelproxyError)) throw error;
    const message = stop.aborted
      ? "interrupted: every half-open connection is released (run the probe again for its result)"
      : (error as AccelproxyError).message;
    stderr(errorLine(message));
    return EXIT.failed;
  }
}

/** Times are ms: more than three digits behind the point would only look exact. */
function toMicroseconds(_key: string, value: unknown): unknown {
  return typeof value === "number" ? Math.round(value * 1e3) / 1e3 : value;
}

function explain(missing: readonly MissingPrivilege[]): string {
  const names = missing.map(({ capability }) => capability).join(" and ");
  const found = missing.map((lack) => lack.found).join("; ");
  const remedies = [...new Set(missing.map(({ remedy }) => remedy))].join("; ");
  return `${names} missing, which a probe needs for half-open connections: ${found} (${remedies})`;
}
