/** What this kernel's own SYN would offer, from the sysctls of our network namespace. */
import type { SynOptions } from "./handshake-wire.ts";
import { readSysctl } from "./sysctl.ts";

const WSCALE_MAX = 14; // RFC 7323 section 2.3

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
    Number((readSysctl("net/ipv4/tcp_rmem") ?? "4096 131072 6291456").split(/\s+/)[2]),
    Number(readSysctl("net/core/rmem_max") ?? 212_992), // not shown in every namespace
  );
  return {
    timestamps: readSysctl("net/ipv4/tcp_timestamps") !== "0",
    sack: readSysctl("net/ipv4/tcp_sack") !== "0",
    wscale: readSysctl("net/ipv4/tcp_window_scaling") === "0" ? undefined : receiveWindowScale(rmemMax),
  };
}
