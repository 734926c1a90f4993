import { readFileSync } from "node:fs";

/** Bytes in objects the kernel has handed out, on the whole machine. */
export interface SlabUse {
  readonly allBytes: number;
  /** Connections that wait for the last ACK of their handshake: what a half-open costs the server. */
  readonly requestBytes: number;
}

/** Reads /proc/slabinfo; undefined for those who may not (only root of the first user namespace may). */
export function readSlabUse(): SlabUse | undefined {
  let text: string;
  try {
    text = readFileSync("/proc/slabinfo", "latin1");
  } catch {
    return undefined;
  }
  let allBytes = 0;
  let requestBytes = 0;
  // name, active objects, all objects, bytes of one, …
  for (const [, name = "", active, size] of text.matchAll(/^(\S+) +(\d+) +\d+ +(\d+) /gm)) {
    const bytes = Number(active) * Number(size);
    allBytes += bytes;
    if (name.startsWith("request_sock_TCP")) requestBytes += bytes;
  }
  return { allBytes, requestBytes };
}
