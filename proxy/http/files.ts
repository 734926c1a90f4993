/** The files that http listeners and upstreams name: read and checked by the main thread, given to workers as text. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { createSecureContext } from "node:tls";
import type { Config, Listener } from "../../config/schema.ts";
import { errorSymbol } from "../errors.ts";
import type { CertificateShare } from "./messages.ts";

export interface HttpFiles {
  /** By the name of the listener. */
  readonly certificates: ReadonlyMap<string, readonly CertificateShare[]>;
  /** What an upstream's certificates must be signed by, by the name of the upstream. */
  readonly authorities: ReadonlyMap<string, string>;
}

export type ReadFiles =
  | { readonly ok: true; readonly files: HttpFiles }
  | { readonly ok: false; readonly problems: string[] };

/** The paths of all of them. Relative ones begin at the folder of the configuration file. */
export function httpFilePaths({ listeners, upstreams }: Config, configFile: string): readonly string[] {
  const own = listeners.flatMap(({ tls }) => tls.flatMap(({ cert, key }) => [cert, key]));
  const authorities = upstreams.flatMap(({ tls }) => tls?.ca ?? []);
  return [...new Set([...own, ...authorities].map((path) => beside(configFile, path)))];
}

function beside(configFile: string, path: string): string {
  return resolve(dirname(configFile), path);
}

/** Reads all of them but those `given`, by path. */
export function readHttpFiles(
  { listeners, upstreams }: Config,
  configFile: string,
  given: ReadonlyMap<string, string> = new Map(),
): ReadFiles {
  const problems: string[] = [];
  const attempt = <T>(what: string, action: () => T): T | undefined => {
    try {
      return action();
    } catch (error) {
      problems.push(`${what}: ${explain(error)}`);
      return undefined;
    }
  };
  const read = (name: string): string => {
    const path = beside(configFile, name);
    return given.get(path) ?? readFileSync(path, "utf8");
  };
  const certificates = listeners.map(({ name, tls }) => {
    const shares = tls.flatMap((entry) => {
      const of = (path: string): string => `listener ${name}: ${path}`;
      const cert = attempt(of(entry.cert), () => read(entry.cert));
      const key = attempt(of(entry.key), () => read(entry.key));
      if (cert === undefined || key === undefined) return [];
      return attempt(of(entry.cert), () => certificate(entry, cert, key)) ?? [];
    });
    return [name, shares] as const;
  });
  const authorities = upstreams.flatMap(({ name, tls }) => {
    if (tls === null || tls.ca === null) return [];
    const path = tls.ca;
    const text = attempt(`upstream ${name}: ${path}`, () => {
      const pem = read(path);
      new X509Certificate(pem);
      return pem;
    });
    return text === undefined ? [] : [[name, text] as const];
  });
  if (problems.length > 0) return { ok: false, problems };
  return { ok: true, files: { certificates: new Map(certificates), authorities: new Map(authorities) } };
}

function certificate({ names }: Listener["tls"][number], cert: string, key: string): CertificateShare {
  createSecureContext({ cert, key }); // throws when the two do not belong together
  return { cert, key, names: names.length > 0 ? names : namesOf(new X509Certificate(cert)) };
}

/** Whom a certificate is for, by its own account. */
function namesOf({ subjectAltName = "" }: X509Certificate): string[] {
  return subjectAltName
    .split(", ")
    .flatMap((name) => (name.startsWith("DNS:") ? [name.slice("DNS:".length).toLowerCase()] : []));
}

const FAILURES: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "this user may not read it",
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: "the key is not that of the certificate",
  ERR_OSSL_PEM_NO_START_LINE: "this is no PEM file",
};

function explain(error: unknown): string {
  const symbol = errorSymbol(error);
  return FAILURES[symbol] ?? symbol;
}
