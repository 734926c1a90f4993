import type { Filter } from "../../bench/lab/lab.ts";
import { decodePacket } from "../../native/wire/packet.ts";
import { seqAdd, seqAfter } from "../../native/wire/seq.ts";
import { ACK, FIN, RST, SYN } from "../../native/wire/tcp.ts";

/** What each end of a connection has said last. */
interface Said {
  tsval: number | undefined;
  edge: number | undefined;
  wscale: number;
}

/** What a link has carried that no undisturbed connection says: kept in the filter's state. */
export interface Watched {
  segments: number;
  resets: number;
  fins: number;
  /** TSvals and right edges of receive windows that went back. */
  clocksBack: number;
  edgesBack: number;
}

const said = new Map<string, Said>();

/** Watches TSvals and windows; lets everything pass. */
export const watch: Filter = (bytes, { from, state }) => {
  const packet = decodePacket(bytes);
  if (packet === undefined) return "pass";
  const watched = state as unknown as Watched;
  const count = (what: keyof Watched): void => {
    watched[what] = (watched[what] ?? 0) + 1;
  };
  const { flags, options, ack, window } = packet;
  count("segments");
  if (flags & RST) count("resets");
  if (flags & FIN) count("fins");
  const key = `${from} ${packet.sport} ${packet.dport}`;
  const last = said.get(key) ?? { tsval: undefined, edge: undefined, wscale: 0 };
  if (flags & SYN) said.set(key, { tsval: options.tsval, edge: undefined, wscale: options.wscale ?? 0 });
  if (flags & (SYN | RST) || !(flags & ACK)) return "pass";
  const edge = seqAdd(ack, window << last.wscale);
  if (last.tsval !== undefined && options.tsval !== undefined && seqAfter(last.tsval, options.tsval))
    count("clocksBack");
  // A window is rounded up to what its shift can say, so that an edge may seem to go back by less than that.
  if (last.edge !== undefined && seqAfter(last.edge, seqAdd(edge, 1 << last.wscale))) count("edgesBack");
  said.set(key, { tsval: options.tsval, edge, wscale: last.wscale });
  return "pass";
};
