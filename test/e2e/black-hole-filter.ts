import type { Filter } from "../../bench/lab/lab.ts";
import { decodePacket } from "../../native/wire/packet.ts";
import { ACK, RST, SYN } from "../../native/wire/tcp.ts";

/**
 * A firewall that keeps a connection in mind only if the client goes on within `forgetMs` of its first SYN: data
 * of older half-opens is dropped without a word. What a repeated SYN meets is the upstream, which still answers.
 */
export const forgetful: Filter<{ readonly port: number; readonly forgetMs: number }> = (packet, context) => {
  const { from, nowMs, options, state } = context;
  const tcp = decodePacket(packet);
  if (from !== "near" || tcp === undefined || tcp.dport !== options.port) return "pass";
  const flow = String(tcp.sport);
  if ((tcp.flags & (SYN | ACK)) === SYN) {
    const known = state[`${flow}.iss`];
    if (known !== tcp.seq) state[flow] = nowMs;
    state[`${flow}.iss`] = tcp.seq;
    return "pass";
  }
  const sinceMs = state[flow];
  const isForgotten = typeof sinceMs === "number" && nowMs - sinceMs > options.forgetMs;
  if (isForgotten) state[flow] = "forgotten";
  else if (typeof sinceMs === "number" && (tcp.flags & RST) === 0) state[flow] = "open";
  return state[flow] === "forgotten" ? "drop" : "pass";
};
