import { readFileSync } from "node:fs";

/** A setting such as net/ipv4/tcp_sack of this network namespace; undefined where it is not shown. */
export function readSysctl(path: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/${path}`, "latin1").trim();
  } catch {
    return undefined; // the kernel or this namespace does not have it
  }
}
