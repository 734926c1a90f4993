import { type Check, diagnose } from "../doctor.ts";
import { EXIT, type ExitCode, type Output } from "./output.ts";

/** `accelproxy doctor`: exit 0 when accelproxy can accelerate here, else 1. */
export async function doctor(options: { readonly json: boolean }, { stdout }: Output): Promise<ExitCode> {
  const { ok, checks } = await diagnose();
  if (options.json) {
    stdout(`${JSON.stringify({ ok, checks }, undefined, 2)}\n`);
  } else {
    for (const check of checks) stdout(formatCheck(check));
    stdout(
      ok
        ? "accelproxy can accelerate here\n"
        : "accelproxy cannot accelerate here: see what is marked FAIL\n",
    );
  }
  return ok ? EXIT.done : EXIT.failed;
}

function formatCheck({ name, ok, required, found, remedy }: Check): string {
  const verdict = ok ? "ok  " : required ? "FAIL" : "warn";
  const line = `${verdict}  ${name.padEnd(20)} ${found}\n`;
  return ok ? line : `${line}${" ".repeat(27)}${remedy}\n`;
}
