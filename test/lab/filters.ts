import type { Filter } from "../../bench/lab/lab.ts";

/** Lets every `options.every`-th packet through and remembers how many there were. */
export const thin: Filter<{ readonly every: number }> = (_packet, { options, state }) => {
  const seen = Number(state.seen ?? 0) + 1;
  state.seen = seen;
  return seen % options.every === 0 ? "pass" : "drop";
};

/** Turns ICMP echo requests of IPv4 into packets for another host: nobody answers. */
export const misdirect: Filter = (packet) => {
  if (packet[9] !== 1) return "pass";
  const altered = Uint8Array.from(packet);
  altered[19]! ^= 0x80;
  return altered;
};
