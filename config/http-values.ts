import { isIP } from "node:net";
import { bad, good, type Parsed, show } from "./problems.ts";

// The values that only http listeners and their upstreams have: hosts as requests name them, paths, files.

// RFC 1035 section 2.3.4, written without the length bytes.
const hostNameCharsMax = 253;
const hostLabel = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

/** Reads a host name, or an address without brackets; letters become small. */
export function readHostName(input: unknown): Parsed<string> {
  if (typeof input !== "string")
    return bad(`${show(input)} is not a host name`, "write one such as example.com");
  const host = input.toLowerCase();
  if (isHostName(host) || isIP(host) !== 0) return good(host);
  const remedy = /[/:]/.test(host)
    ? "write the name alone, without scheme and port"
    : "write one such as example.com";
  return bad(`${show(input)} is not a host name`, remedy);
}

/** Reads which hosts are meant: `example.com`, `*.example.com` for every name below it, `*` for all. */
export function readHostPattern(input: unknown): Parsed<string> {
  if (input === "*") return good(input);
  if (typeof input !== "string" || !input.includes("*")) return readHostName(input);
  const suffix = input.toLowerCase();
  if (suffix.startsWith("*.") && isHostName(suffix.slice(2))) return good(suffix);
  return bad(`${show(input)} is not a pattern of hosts`, "write a name, *.example.com or *");
}

/** Reads the beginning of paths: `/api` stands for /api and what is below it, not for /apis. */
export function readPathPrefix(input: unknown): Parsed<string> {
  if (typeof input !== "string" || !input.startsWith("/"))
    return bad(`${show(input)} is not a path`, "begin it with a slash, for example /api");
  if (/[^\x21-\x7e]|[?#*]/.test(input))
    return bad(
      `${show(input)} is not the beginning of a path`,
      "write it as requests have it, without ? # * and spaces",
    );
  if (/(^|\/)\.{1,2}(\/|$)|\/\//.test(input))
    return bad(`${show(input)} has empty parts or dots`, "write the path they lead to");
  return good(input);
}

/** Reads what is sent as Host: `keep` for the client's own, or a host with or without port. */
export function readHostHeader(input: unknown): Parsed<string> {
  if (input === "keep") return good(input);
  const [, host = "", port] =
    /^(.*?)(?::(\d{1,5}))?$/.exec(typeof input === "string" ? input.toLowerCase() : "") ?? [];
  const isPort = port === undefined || (Number(port) >= 1 && Number(port) <= 65_535);
  if (isHostName(host) && isPort) return good(port === undefined ? host : `${host}:${port}`);
  return bad(
    `${show(input)} is not a host`,
    "write keep, or a host such as api.internal or api.internal:8080",
  );
}

/** Reads the path of a file; a relative one is relative to the configuration file. */
export function readFilePath(input: unknown): Parsed<string> {
  if (typeof input !== "string" || input === "")
    return bad(`${show(input)} is not a path`, "write the path of a PEM file");
  if (input.includes("-----BEGIN"))
    return bad("this is a PEM text, not a path", "put it into a file, and write the path of that");
  return good(input);
}

function isHostName(host: string): boolean {
  return host.length <= hostNameCharsMax && host.split(".").every((label) => hostLabel.test(label));
}
