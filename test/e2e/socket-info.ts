/** What ss(8) tells of TCP connections, by name, to compare two of them. */
import type { Host } from "../../bench/lab/lab.ts";

/** Values by name as ss prints them; options such as "sack" and "ts" have the value "yes". */
export type SocketInfo = ReadonlyMap<string, string>;

/** What two connections of equal handshakes have in common after their first response. */
export const NEGOTIATED = [
  "ts",
  "sack",
  "wscale",
  "mss",
  "pmtu",
  "rcvmss",
  "advmss",
  "snd_wnd",
  "rcv_space",
  "cwnd",
] as const;

/** Established connections of a host that fulfil an ss filter, by the port of their near end. */
export async function socketInfo(host: Host, filter: string, portOf: "local" | "peer") {
  const { stdout } = await host.run("ss", ["-tinmoHO", "state", "established", filter]);
  const found = new Map<number, SocketInfo>();
  for (const line of stdout.split("\n")) {
    const [, , local = "", peer = "", ...words] = line.trim().split(/\s+/);
    if (peer === "") continue;
    const info = new Map<string, string>();
    for (const [at, word] of words.entries()) {
      const colon = word.indexOf(":");
      if (colon > 0) info.set(word.slice(0, colon), word.slice(colon + 1));
      else info.set(word, "yes");
      if (word === "app_limited") info.set("app_limited", words[at + 1] ?? "");
    }
    found.set(Number((portOf === "local" ? local : peer).replace(/^.*:/, "")), info);
  }
  return found;
}

/** The values of `names`, for a comparison that shows them all. */
export function pick(info: SocketInfo, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [name, info.get(name) ?? "none"]));
}
