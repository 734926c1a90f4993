/** What an upstream is told of where a request came from. */
import type { RequestHead } from "./request-head.ts";

/** The client's side of a request. */
export interface Origin {
  readonly address: string;
  readonly isSecure: boolean;
  readonly requestId: string;
}

/** By us or by what came before, put together with what we add. */
const ADDED = ["x-forwarded-for", "forwarded", "via"] as const;
/** What we know better than the client. */
const REPLACED = new Set(["x-forwarded-proto", "x-forwarded-host", "x-request-id"]);
const VIA = "1.1 accelproxy";

/** The headers that go upstream: those of the head, Host, and X-Forwarded-*, Forwarded, Via and X-Request-Id. */
export function upstreamFields(head: RequestHead, origin: Origin, host: string): string[] {
  const before = new Map<string, string[]>(ADDED.map((name) => [name, []]));
  const fields: string[] = ["Host", host];
  for (let at = 0; at < head.fields.length; at += 2) {
    const [name, value] = [head.fields[at]!, head.fields[at + 1]!];
    const known = before.get(name.toLowerCase());
    if (known) known.push(value);
    else if (!REPLACED.has(name.toLowerCase())) fields.push(name, value);
  }
  const { address, isSecure, requestId } = origin;
  const scheme = isSecure ? "https" : "http";
  const node = address.includes(":") ? `"[${address}]"` : address;
  const asked = head.authority === "" ? "" : `;host="${head.authority}"`;
  const join = (name: (typeof ADDED)[number], own: string): string => [...before.get(name)!, own].join(", ");
  fields.push("X-Forwarded-For", join("x-forwarded-for", address));
  fields.push("X-Forwarded-Proto", scheme);
  if (head.authority !== "") fields.push("X-Forwarded-Host", head.authority);
  fields.push("Forwarded", join("forwarded", `for=${node}${asked};proto=${scheme}`));
  fields.push("Via", join("via", VIA));
  fields.push("X-Request-Id", requestId);
  return fields;
}

/** Via of an answer, with what is there already. */
export function withVia(fields: readonly string[]): string[] {
  const rest: string[] = [];
  const before: string[] = [];
  for (let at = 0; at < fields.length; at += 2) {
    if (fields[at]!.toLowerCase() === "via") before.push(fields[at + 1]!);
    else rest.push(fields[at]!, fields[at + 1]!);
  }
  return [...rest, "Via", [...before, VIA].join(", ")];
}
