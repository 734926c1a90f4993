import { isIPv4, isIPv6 } from "node:net";
import { bad, good, type Parsed, show } from "./problems.ts";

/** Where a listener binds: an IP address without brackets, in its shortest spelling, and a port (0 picks one). */
export type Bind = { readonly host: string; readonly port: number };

/** Where an upstream server is: as Bind, or with a host name that is still to be resolved. Port 1..65535. */
export type ServerAddress = { readonly host: string; readonly port: number; readonly kind: "ip" | "name" };

/** Where the admin interface listens. `path` is absolute and fits sun_path. */
export type AdminBind =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

// struct sockaddr_un: 108 bytes with the final NUL (include/uapi/linux/un.h).
const unixPathBytesMax = 107;
// RFC 1035 section 2.3.4, written without the length bytes.
const hostNameCharsMax = 253;
const hostLabel = /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

/** Reads the address a listener binds: `127.0.0.1:8001`, `[::]:8001`; port 0 allowed, host names not. */
export function parseBind(input: unknown): Parsed<Bind> {
  const split = splitHostPort(input, "127.0.0.1:8001", 0);
  if (!split.ok) return split;
  const { host, port, bracketed } = split.value;
  if (host === "" || host === "*") {
    return bad(`${show(input)} has no address`, `write 0.0.0.0:${port} or "[::]:${port}" for every address`);
  }
  const ip = parseIp(host, port, bracketed);
  if (!ip.ok) return ip;
  if (ip.value === undefined) {
    const instead = host === "localhost" ? "127.0.0.1" : "0.0.0.0";
    return bad(`${show(input)} names a host`, `bind an IP address, for example ${instead}:${port}`);
  }
  return good({ host: ip.value, port });
}

/** Reads the address of an upstream server: `10.0.0.7:8080`, `[2001:db8::7]:8080` or `name:port`. */
export function parseServerAddress(input: unknown): Parsed<ServerAddress> {
  const split = splitHostPort(input, "10.0.0.7:8080", 1);
  if (!split.ok) return split;
  const { host, port, bracketed } = split.value;
  if (host === "")
    return bad(`${show(input)} has no host`, `write one before the port, for example 10.0.0.7:${port}`);
  const ip = parseIp(host, port, bracketed);
  if (!ip.ok) return ip;
  if (ip.value === undefined) {
    const fault = hostNameFault(host);
    if (fault !== undefined)
      return bad(
        `${show(input)} ${fault}`,
        "write an IP address or a DNS name, for example origin.example:80",
      );
    return good({ host, port, kind: "name" });
  }
  if (ip.value === "0.0.0.0" || ip.value === "::") {
    const loopback = formatHostPort({ host: ip.value === "::" ? "::1" : "127.0.0.1", port });
    return bad(
      `${show(input)} is not the address of a server`,
      `write the server's own address, for example ${loopback}`,
    );
  }
  return good({ host: ip.value, port, kind: "ip" });
}

/** Reads where the admin interface listens: `unix:/run/accelproxy.sock`, `127.0.0.1:9901` or `[::1]:9901`. */
export function parseAdminBind(input: unknown): Parsed<AdminBind> {
  if (typeof input === "string" && input.startsWith("unix:"))
    return parseUnixPath(input.slice("unix:".length));
  if (typeof input === "string" && input.startsWith("/")) {
    return bad(`${show(input)} is not an address`, `write unix:${input} for a unix socket`);
  }
  const bind = parseBind(input);
  return bind.ok ? good({ kind: "tcp", ...bind.value }) : bind;
}

/** `host:port`, an IPv6 host in brackets. */
export function formatHostPort({ host, port }: Bind): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** The reverse of parseAdminBind. */
export function formatAdminBind(bind: AdminBind): string {
  return bind.kind === "unix" ? `unix:${bind.path}` : formatHostPort(bind);
}

/** True for 127.0.0.0/8 and ::1, given an address as parseBind returns it. */
export function isLoopback(host: string): boolean {
  return host === "::1" || (isIPv4(host) && host.startsWith("127."));
}

type Split = { readonly host: string; readonly port: number; readonly bracketed: boolean };

function splitHostPort(input: unknown, example: string, portMin: 0 | 1): Parsed<Split> {
  if (typeof input !== "string") {
    const remedy = Array.isArray(input)
      ? `quote an IPv6 address: "[::1]:8001"`
      : `write HOST:PORT, for example ${example}`;
    return bad(`${show(input)} is not an address`, remedy);
  }
  if (input.includes("://"))
    return bad(`${show(input)} is a URL`, `write only HOST:PORT, for example ${example}`);
  if (input.startsWith("unix:")) {
    return bad(
      `${show(input)} is a unix socket, which only admin.bind may be`,
      `write HOST:PORT, for example ${example}`,
    );
  }
  if (/[\s/]/.test(input)) {
    return bad(
      `${show(input)} is not an address`,
      `write HOST:PORT without spaces or slashes, for example ${example}`,
    );
  }
  const brackets = /^\[([^[\]]*)\](?::(.*))?$/.exec(input);
  if (brackets !== null) return withPort(input, brackets[1]!, brackets[2], true, example, portMin);
  if (isIPv6(input)) {
    return bad(
      `${show(input)} has no brackets around its IPv6 address`,
      `write "[ADDRESS]:PORT", for example "[2001:db8::7]:8080"`,
    );
  }
  const colon = input.lastIndexOf(":");
  if (colon < 0) return withPort(input, input, undefined, false, example, portMin);
  return withPort(input, input.slice(0, colon), input.slice(colon + 1), false, example, portMin);
}

function withPort(
  input: string,
  host: string,
  port: string | undefined,
  bracketed: boolean,
  example: string,
  portMin: 0 | 1,
): Parsed<Split> {
  if (port === undefined || port === "") {
    const [exampleHost, examplePort] = example.split(":");
    const before = host === "" ? exampleHost : bracketed ? `[${host}]` : host;
    return bad(`${show(input)} has no port`, `write HOST:PORT, for example ${before}:${examplePort}`);
  }
  const allowed = `write a port from ${portMin} to 65535`;
  if (!/^(0|[1-9]\d{0,7})$/.test(port)) return bad(`${show(input)} has the port ${show(port)}`, allowed);
  if (Number(port) > 65535 || Number(port) < portMin)
    return bad(`${show(input)} has the port ${port}`, allowed);
  return good({ host, port: Number(port), bracketed });
}

/** The shortest spelling of a unicast address; undefined when `host` is not written like an address at all. */
function parseIp(host: string, port: number, bracketed: boolean): Parsed<string | undefined> {
  if (host.includes("%")) return bad(`${show(host)} has a zone`, "write an address without %INTERFACE");
  if (isIPv6(host)) {
    const ip = new URL(`http://[${host}]`).hostname.slice(1, -1);
    if (!bracketed)
      return bad(
        `${show(`${host}:${port}`)} has no brackets around its IPv6 address`,
        `write "[${ip}]:${port}"`,
      );
    if (ip.startsWith("::ffff:"))
      return bad(`${show(host)} is an IPv4 address in IPv6 notation`, `write ${mappedIpv4(ip)}:${port}`);
    if (/^ff[0-9a-f]{2}:/.test(ip))
      return bad(`${show(host)} is a multicast address`, "write the address of one host");
    return good(ip);
  }
  if (bracketed || host.includes(":")) {
    return bad(
      `${show(host)} is not an IPv6 address`,
      `write one in brackets, for example "[2001:db8::7]:${port}"`,
    );
  }
  if (isIPv4(host)) {
    if (Number(host.split(".")[0]) < 224) return good(host);
    return bad(`${show(host)} is a multicast or reserved address`, "write the address of one host");
  }
  // RFC 1123 section 2.1: a host name never ends in an all-numeric label, so this was meant as an address.
  if (/(^|\.)\d+\.?$/.test(host)) {
    return bad(
      `${show(host)} is not an IPv4 address`,
      "write four numbers from 0 to 255, for example 10.0.0.7",
    );
  }
  return good(undefined);
}

function mappedIpv4(ip: string): string {
  const [high, low] = ip
    .split(":")
    .slice(-2)
    .map((part) => Number.parseInt(part, 16));
  return [high! >> 8, high! & 255, low! >> 8, low! & 255].join(".");
}

function hostNameFault(host: string): string | undefined {
  if (host.length > hostNameCharsMax) return `has a host name longer than ${hostNameCharsMax} characters`;
  const labels = host.replace(/\.$/, "").split(".");
  return labels.every((label) => hostLabel.test(label))
    ? undefined
    : "is neither an IP address nor a host name";
}

function parseUnixPath(path: string): Parsed<AdminBind> {
  const bytes = Buffer.byteLength(path);
  if (!path.startsWith("/")) {
    return bad(
      `${show(`unix:${path}`)} has no absolute path`,
      "write one that begins with /, for example unix:/run/accelproxy.sock",
    );
  }
  if (path.includes("\0") || path.endsWith("/")) {
    return bad(
      `${show(`unix:${path}`)} does not name a file`,
      "write a path such as unix:/run/accelproxy.sock",
    );
  }
  if (bytes > unixPathBytesMax) {
    return bad(
      `the path of the unix socket is ${bytes} bytes long`,
      `write at most ${unixPathBytesMax} bytes, for example unix:/run/accelproxy.sock`,
    );
  }
  return good({ kind: "unix", path });
}
