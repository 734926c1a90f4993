/** What a restore plan is made of: operations on one socket, and the ones that recur. */

import * as so from "../abi/socket.ts";
import { SO_LINGER, SOL_SOCKET } from "../abi/socket.ts";
import * as tcp from "../abi/tcp.ts";
import type { TcpPacket } from "../wire/packet.ts";
import type { RepairWindow, TcpEnd } from "./image.ts";
import { type OptionMoment, type OptionValue, optionRow } from "./options.ts";

/** On a socket there is. */
export type SocketOp =
  | { readonly op: "setInt"; readonly level: number; readonly name: number; readonly value: number }
  | { readonly op: "setBytes"; readonly level: number; readonly name: number; readonly bytes: Uint8Array }
  | { readonly op: "setOptions"; readonly options: readonly (readonly [code: number, value: number])[] }
  | { readonly op: "setWindow"; readonly window: RepairWindow }
  | { readonly op: "bind"; readonly end: TcpEnd }
  | { readonly op: "connect"; readonly end: TcpEnd }
  /** connect() without waiting for its end. */
  | { readonly op: "startConnect"; readonly end: TcpEnd }
  /** Into the queue chosen in repair mode, else to be sent. */
  | { readonly op: "write"; readonly bytes: Uint8Array }
  /** shutdown() of our direction. */
  | { readonly op: "shutdown" }
  /** Lets a segment of the peer arrive that the network does not carry. */
  | { readonly op: "feed"; readonly packet: TcpPacket };

export type RepairOp = { readonly op: "socket"; readonly family: 4 | 6 } | SocketOp;

export const setInt = (level: number, name: number, value: number): SocketOp => ({
  op: "setInt",
  level,
  name,
  value,
});
export const setTcp = (name: number, value: number): SocketOp => setInt(so.IPPROTO_TCP, name, value);

export const SOCKET_4: RepairOp = { op: "socket", family: 4 };
export const SOCKET_6: RepairOp = { op: "socket", family: 6 };
export const ENTER = setTcp(tcp.TCP_REPAIR, tcp.TCP_REPAIR_ON);
export const LEAVE = setTcp(tcp.TCP_REPAIR, tcp.TCP_REPAIR_OFF_NO_WP);
export const RECV_QUEUE = setTcp(tcp.TCP_REPAIR_QUEUE, tcp.TCP_RECV_QUEUE);
export const SEND_QUEUE = setTcp(tcp.TCP_REPAIR_QUEUE, tcp.TCP_SEND_QUEUE);
export const SHUTDOWN: SocketOp = { op: "shutdown" };

/** The operations that give a socket those of `options` whose moment this is, in the order of the rows. */
export function optionOps(options: readonly OptionValue[], moment: OptionMoment): SocketOp[] {
  return options.flatMap(({ name, value }) => {
    const row = optionRow(name);
    if (row === undefined) throw new RangeError(`${name} is no option of a connection`);
    if (row.moment !== moment) return [];
    const { level, code, setCode = code, kind } = row;
    switch (kind) {
      case "integer":
        return setInt(level, code, Number(value));
      case "buffer":
        return setInt(level, setCode, Math.ceil(Number(value) / 2)); // the kernel doubles it
      case "linger":
        return { op: "setBytes", level: SOL_SOCKET, name: SO_LINGER, bytes: linger(Number(value)) };
      case "text":
        return { op: "setBytes", level, name: code, bytes: Buffer.from(String(value), "latin1") };
      default: {
        const unreachable: never = kind;
        return unreachable;
      }
    }
  });
}

/** struct linger: l_onoff, l_linger; two ints. */
function linger(seconds: number): Uint8Array {
  return new Uint8Array(Int32Array.of(seconds < 0 ? 0 : 1, Math.max(0, seconds)).buffer);
}
