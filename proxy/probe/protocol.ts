import { formatHostPort } from "../../config/addresses.ts";
import type { Endpoint } from "../../native/address.ts";
import { version } from "../version.ts";
import { type Exchange, exchangeDirectly } from "./exchange.ts";
import { GREETING_MAX } from "./limits.ts";

/** http: answers HEAD. tls: known by its port or its alert. greets: the server speaks first. other: none of these. */
export type Protocol = "http" | "tls" | "greets" | "other";

/** Where plain text draws an error at best; the handshake is all that is timed there. */
const TLS_PORTS: readonly number[] = [443, 465, 636, 853, 993, 995, 8443];
// RFC 8446 section 5.1: content type alert (21), legacy version 3.x.
const TLS_ALERT = "\x15\x03";

/** HEAD / for a host as the user named it. */
export function headRequest(target: { readonly host: string; readonly port: number }): string {
  const host = target.port === 80 ? hostOf(target) : formatHostPort(target);
  return `HEAD / HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: accelproxy/${version}\r\nAccept: */*\r\nConnection: close\r\n\r\n`;
}

function hostOf({ host }: { readonly host: string }): string {
  return host.includes(":") ? `[${host}]` : host;
}

/** What a first exchange, one that left the server time to speak first, shows. */
export function recognize(
  { head, outcome, wasAsked }: Pick<Exchange, "head" | "outcome" | "wasAsked">,
  port: number,
): Protocol {
  if (TLS_PORTS.includes(port)) return "tls";
  if (outcome !== "answered") return "other";
  if (!wasAsked) return "greets";
  if (head.startsWith("HTTP/")) return "http";
  return head.startsWith(TLS_ALERT) ? "tls" : "other";
}

/** The status code of an HTTP answer. */
export function statusOf(head: string): number | undefined {
  const code = /^HTTP\/\d(?:\.\d)? (\d{3})/.exec(head)?.[1];
  return code === undefined ? undefined : Number(code);
}

/** The first connection to a server: reachable or not, and what it speaks. The caller has its turn to send a SYN. */
export async function meet(
  server: Endpoint,
  requestText: string,
  stop: AbortSignal,
): Promise<{ readonly exchange: Exchange; readonly protocol: Protocol }> {
  const isTls = TLS_PORTS.includes(server.port);
  const request = isTls ? { text: undefined } : { text: requestText, quietMs: GREETING_MAX };
  const exchange = await exchangeDirectly(server, request, stop);
  return { exchange, protocol: recognize(exchange, server.port) };
}
