import { makeKeys } from "../checkpoint/keys.ts";
import { AccelproxyError } from "../errors.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./output.ts";

/** `accelproxy keys DIR`: the pair by which two hosts trust each other when sessions move. */
export function keys(dir: string, { stdout, stderr }: Output): ExitCode {
  try {
    const { keyFile, certificateFile } = makeKeys(dir);
    stdout(
      `${keyFile}\n${certificateFile}\ncopy both to the other host, by a way that keeps the key secret\n`,
    );
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof AccelproxyError)) throw error;
    stderr(errorLine(error.message));
    return EXIT.failed;
  }
}
