/** What this kernel's own SYN would offer, from the sysctls of our network namespace. */
import { readFileSync } from "node:fs";
import type { SynOptions } from "./handshake-wire.ts";

const WSCALE_MAX = 14; // RFC 7323 section 2.3

function sysctl(name: string, fallback: string): string {
  try {
    return readFileSync(`/proc/sys/net/${name}`, "utf8").trim();
  } catch {
    return fallback; // rmem_max is not shown in every namespace
  }
}

/**
 * The window scale a SYN announces for the largest receive buffer the kernel may grow to:
 * net/ipv4/tcp_output.c tcp_select_initial_window().
 */
export function receiveWindowScale(rmemMaxBytes: number): number {
  const shift = Math.floor(Math.log2(Math.max(rmemMaxBytes, 1))) - 15;
  return Math.min(Math.max(shift, 0), WSCALE_MAX);
}

export function readSynOptions(): SynOptions {
  const rmemMax = Math.max(
    Number(sysctl("ipv4/tcp_rmem", "4096 131072 6291456").split(/\s+/)[2]),
    Number(sysctl("core/rmem_max", "212992")),
  );
  return {
    timestamps: sysctl("ipv4/tcp_timestamps", "1") !== "0",
    sack: sysctl("ipv4/tcp_sack", "1") !== "0",
    wscale: sysctl("ipv4/tcp_window_scaling", "1") === "0" ? undefined : receiveWindowScale(rmemMax),
  };
}
