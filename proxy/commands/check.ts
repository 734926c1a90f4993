import { loadConfig } from "../../config/load.ts";
import { formatConfig } from "../../config/print.ts";
import { formatProblem } from "../../config/problems.ts";
import { EXIT, type ExitCode, type Output } from "./output.ts";

/** `accelproxy check`: the effective configuration on stdout, or every problem on stderr, one a line. */
export async function check(configFile: string, { stdout, stderr }: Output): Promise<ExitCode> {
  const loaded = await loadConfig(configFile);
  if (!loaded.ok) {
    for (const problem of loaded.problems) stderr(`${formatProblem(problem)}\n`);
    return EXIT.usage;
  }
  stdout(formatConfig(loaded.config));
  return EXIT.done;
}
