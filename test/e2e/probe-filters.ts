import type { Filter } from "../../bench/lab/lab.ts";
import { decodePacket, encodePacket } from "../../native/wire/packet.ts";
import { ACK, SYN } from "../../native/wire/tcp.ts";

interface Options {
  /** Behind a firewall that drops data before the handshake's own ACK. */
  readonly strictPort: number;
  /** Behind one that drops everything from a client whose first packet after the SYN was data. */
  readonly harshPort: number;
  /** Answered by two machines in turn: every second SYN-ACK has another TTL and MSS. */
  readonly twoFacedPort: number;
}

/** Boxes between the near and the far host, by the server's port. */
export const middleboxes: Filter<Options> = (packet, { from, options, state }) => {
  const tcp = decodePacket(packet);
  if (tcp === undefined) return "pass";
  const { strictPort, harshPort, twoFacedPort } = options;
  if (from === "near" && (tcp.dport === strictPort || tcp.dport === harshPort)) {
    const flow = `${tcp.dport} ${tcp.sport}`;
    const hasData = tcp.payloadEnd > tcp.payloadStart;
    if (tcp.flags === SYN) delete state[flow];
    else if (!hasData && state[flow] === undefined) state[flow] = "acknowledged";
    else if (hasData && state[flow] === undefined && tcp.dport === harshPort) state[flow] = "banned";
    return state[flow] === "banned" || (hasData && state[flow] === undefined) ? "drop" : "pass";
  }
  if (from !== "near" && tcp.sport === twoFacedPort && tcp.flags === (SYN | ACK)) {
    const seen = Number(state.seen ?? 0) + 1;
    state.seen = seen;
    if (seen % 2 === 0)
      return encodePacket({ ...tcp, ttl: tcp.ttl - 3, options: { ...tcp.options, mss: 1400 } });
  }
  return "pass";
};
