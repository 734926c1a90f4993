/**
 * The pair for moving sessions over TLS: a key and a certificate signed by itself. Both hosts have the same two files,
 * show that certificate and accept no other.
 *
 * Node makes keys but no certificates: openssl(1) signs. It reads the key from its file, which only the owner can.
 */
import { spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";
import { AccelproxyError, errorSymbol } from "../errors.ts";

/** The name in the certificate, whichever host shows it. */
export const KEYS_NAME = "accelproxy";

const DAYS = 3_650;
const SIGNING = [
  ...["req", "-x509", "-new", "-config", "/dev/null", "-sha256"],
  ...["-days", String(DAYS), "-subj", `/CN=${KEYS_NAME}`, "-addext", `subjectAltName=DNS:${KEYS_NAME}`],
  ...["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature"],
  ...["-addext", "extendedKeyUsage=serverAuth,clientAuth"],
];
const ENVIRONMENT = { PATH: "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", LC_ALL: "C" };

export interface KeyFiles {
  readonly keyFile: string;
  readonly certificateFile: string;
}

/** Where both files are in `dir`. */
export function keyFiles(dir: string): KeyFiles {
  return { keyFile: join(dir, "move.key"), certificateFile: join(dir, "move.crt") };
}

/**
 * Makes both files, mode 0600, and `dir` if need be. Never overwrites; leaves no file when it fails. `openssl` is
 * the program. Throws AccelproxyError ACCEL_KEYS_EXIST, ACCEL_KEYS_OPENSSL, ACCEL_KEYS_WRITE.
 */
export function makeKeys(dir: string, openssl = "openssl"): KeyFiles {
  const files = keyFiles(dir);
  refuseExisting(files);
  const written: string[] = [];
  const write = (path: string, text: string): void => {
    const fd = fs.openSync(path, "wx", 0o600);
    written.push(path);
    fs.writeFileSync(fd, text);
    fs.closeSync(fd);
  };
  try {
    fs.mkdirSync(dir, { recursive: true, mode: 0o700 });
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    write(files.keyFile, privateKey.export({ type: "pkcs8", format: "pem" }).toString());
    write(files.certificateFile, sign(files.keyFile, openssl));
  } catch (cause) {
    for (const path of written) fs.rmSync(path, { force: true });
    if (cause instanceof AccelproxyError) throw cause;
    throw new AccelproxyError(
      "ACCEL_KEYS_WRITE",
      `${dir}: keys cannot be written: ${errorSymbol(cause)} (give a directory that this user may write to)`,
      { cause },
    );
  }
  return files;
}

function refuseExisting({ keyFile, certificateFile }: KeyFiles): void {
  for (const path of [keyFile, certificateFile]) {
    if (fs.existsSync(path)) {
      throw new AccelproxyError("ACCEL_KEYS_EXIST", `${path} is there already (give another directory)`);
    }
  }
}

/** The certificate of a key, PEM. */
function sign(keyFile: string, openssl: string): string {
  const { error, status, stdout, stderr } = spawnSync(openssl, [...SIGNING, "-key", keyFile], {
    encoding: "utf8",
    env: ENVIRONMENT,
  });
  if (error !== undefined) {
    const remedy = errorSymbol(error) === "ENOENT" ? "apt-get install openssl" : "try it by hand";
    const message = `openssl, which signs the certificate, cannot be run: ${errorSymbol(error)} (${remedy})`;
    throw new AccelproxyError("ACCEL_KEYS_OPENSSL", message, { cause: error });
  }
  if (status === 0) return stdout;
  throw new AccelproxyError(
    "ACCEL_KEYS_OPENSSL",
    `openssl does not sign the certificate: ${stderr.trim()} (OpenSSL 1.1.1 or newer is needed)`,
  );
}
