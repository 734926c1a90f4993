/** A connection that stands still: in repair mode and in the guard, either frozen or restored and not resumed. */
import * as tcp from "../abi/tcp.ts";
import { formatAddress, formatEndpoint } from "../address.ts";
import type { TcpEnd, TcpState } from "./image.ts";
import type { OptionValue } from "./options.ts";
import { RepairError } from "./repair-error.ts";

export interface Held {
  /** The socket's descriptor; whoever froze or restored it owns it. */
  readonly fd: number;
  readonly local: TcpEnd;
  readonly remote: TcpEnd;
  /** Options to set when repair mode ends, which overwrites them. SO_REUSEADDR is among them. */
  readonly later: readonly OptionValue[];
}

/** "10.0.0.7:8080 → 10.0.0.1:40000", as messages name a connection. */
export function nameOf({ local, remote }: Pick<Held, "local" | "remote">): string {
  const [from, to] = [local, remote].map(({ address, port }) =>
    formatEndpoint({ address: formatAddress(address), port }),
  );
  return `${from} → ${to}`;
}

const STATES: Readonly<Record<number, TcpState>> = {
  [tcp.TCP_ESTABLISHED]: "ESTABLISHED",
  [tcp.TCP_SYN_SENT]: "SYN_SENT",
  [tcp.TCP_FIN_WAIT1]: "FIN_WAIT1",
  [tcp.TCP_FIN_WAIT2]: "FIN_WAIT2",
  [tcp.TCP_CLOSE_WAIT]: "CLOSE_WAIT",
  [tcp.TCP_LAST_ACK]: "LAST_ACK",
  [tcp.TCP_CLOSING]: "CLOSING",
};
const REFUSED: Readonly<Record<number, string>> = {
  [tcp.TCP_SYN_RECV]: "SYN_RECV: the handshake is not complete (wait for it)",
  [tcp.TCP_TIME_WAIT]: "TIME_WAIT: both sides have ended it (close it)",
  [tcp.TCP_CLOSE]: "CLOSE: it never was or is no more (close it)",
  [tcp.TCP_LISTEN]: "LISTEN: a listener has nothing to restore (listen again)",
};

/** The state by its name. Throws RepairError ACCEL_REPAIR_STATE for one that cannot be restored. */
export function stateOf(state: number, of: { readonly fd: number }): TcpState {
  const name = STATES[state];
  if (name !== undefined) return name;
  const why = REFUSED[state] ?? `state ${state}`;
  throw new RepairError("ACCEL_REPAIR_STATE", `descriptor ${of.fd} is in ${why}`);
}

const MAPPED_PREFIX = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/** The address as packets carry it: an IPv4-mapped one is 4 bytes there. */
export function onTheWire(address: Uint8Array): Uint8Array {
  const isMapped = address.length === 16 && MAPPED_PREFIX.every((byte, index) => address[index] === byte);
  return isMapped ? address.subarray(12) : address;
}

/** Whether the packets of this address are IPv4. */
export const isIpv4 = (address: Uint8Array): boolean => onTheWire(address).length === 4;
