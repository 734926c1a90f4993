/**
 * Reads what a TCP socket tells about itself, one system call a value, into one arena per thread. Every function
 * throws SyscallError.
 */

import * as so from "../abi/socket.ts";
import { SIOCINQ, SIOCOUTQ } from "../abi/sockios.ts";
import * as tcp from "../abi/tcp.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { readU16 } from "../wire/bytes.ts";
import type { RepairWindow, TcpEnd } from "./image.ts";
import type { OptionRow } from "./options.ts";

const SIZE = 4096;
const LENGTH_AT = 2048;
const { address, buffer, bytes, view } = Memory.anonymous(SIZE);
const characters = Buffer.from(buffer);

/** Calls getsockopt() with `size` bytes of room at the arena's start; returns the length of the answer. */
function get(fd: number, level: number, code: number, size: number): number {
  view.setUint32(LENGTH_AT, size, true);
  const result = libc.getsockoptAt(fd, level, code, address, address + LENGTH_AT);
  if (result < 0) throw new SyscallError("getsockopt", lastErrno(), { fd, level, code });
  return view.getUint32(LENGTH_AT, true);
}

/** An int option. */
export function readInt(fd: number, level: number, code: number): number {
  get(fd, level, code, 4);
  return view.getInt32(0, true);
}

/** An int option of TCP as unsigned: sequence numbers, TSvals. */
export const readTcp = (fd: number, code: number): number => readInt(fd, so.IPPROTO_TCP, code) >>> 0;

const TEXT_MAX = 64;

/** An option that is a name; "" when it has none. */
export function readText(fd: number, level: number, code: number): string {
  const length = get(fd, level, code, TEXT_MAX);
  if (length === 0) return "";
  const end = characters.indexOf(0);
  return characters.toString("latin1", 0, end < 0 ? length : Math.min(end, length));
}

/** The value of an option by its row, as OptionValue has it. */
export function readOption(fd: number, { level, code, kind }: OptionRow): number | string {
  switch (kind) {
    case "integer":
      return readInt(fd, level, code);
    case "buffer": {
      const size = readInt(fd, level, code);
      return size + (size & 1); // only even sizes can be set
    }
    case "linger":
      get(fd, level, code, 8);
      return view.getInt32(0, true) === 0 ? -1 : view.getInt32(4, true);
    case "text":
      return readText(fd, level, code);
    default: {
      const unreachable: never = kind;
      return unreachable;
    }
  }
}

// Offsets of struct tcp_info, include/uapi/linux/tcp.h; tcpi_notsent_bytes is there since Linux 4.6.
const TCPI = { state: 0, options: 5, wscale: 6, snd_mss: 16, unacked: 24, advmss: 84, notsent: 144 } as const;
const TCP_INFO_SIZE = 148;
// tcpi_options.
const TCPI_OPT_TIMESTAMPS = 1;
const TCPI_OPT_SACK = 2;
const TCPI_OPT_WSCALE = 4;

/** What of TCP_INFO an image needs. */
export interface Negotiated {
  /** As in include/net/tcp_states.h. */
  readonly state: number;
  readonly timestamps: boolean;
  readonly sack: boolean;
  /** Shifts of both directions, 0 without window scaling. */
  readonly snd_wscale: number;
  readonly rcv_wscale: number;
  readonly snd_mss: number;
  readonly advmss: number;
  /** Whether anything written is not acknowledged yet. */
  readonly isSending: boolean;
  /** write_seq - snd_nxt: bytes that were never sent, an unsent FIN counted. */
  readonly notsent: number;
}

export function readNegotiated(fd: number): Negotiated {
  get(fd, so.IPPROTO_TCP, tcp.TCP_INFO, TCP_INFO_SIZE);
  const options = bytes[TCPI.options]!;
  const scaled = (options & TCPI_OPT_WSCALE) !== 0;
  const notsent = view.getUint32(TCPI.notsent, true);
  return {
    state: bytes[TCPI.state]!,
    timestamps: (options & TCPI_OPT_TIMESTAMPS) !== 0,
    sack: (options & TCPI_OPT_SACK) !== 0,
    snd_wscale: scaled ? bytes[TCPI.wscale]! & 0xf : 0,
    rcv_wscale: scaled ? bytes[TCPI.wscale]! >>> 4 : 0,
    snd_mss: view.getUint32(TCPI.snd_mss, true),
    advmss: view.getUint32(TCPI.advmss, true),
    isSending: view.getUint32(TCPI.unacked, true) + notsent > 0,
    notsent,
  };
}

/** struct tcp_repair_window of a socket in repair mode. */
export function readWindow(fd: number): RepairWindow {
  get(fd, so.IPPROTO_TCP, tcp.TCP_REPAIR_WINDOW, tcp.TCP_REPAIR_WINDOW_SIZE);
  return {
    snd_wl1: view.getUint32(0, true),
    snd_wnd: view.getUint32(4, true),
    max_window: view.getUint32(8, true),
    rcv_wnd: view.getUint32(12, true),
    rcv_wup: view.getUint32(16, true),
  };
}

function chooseQueue(fd: number, queue: number): void {
  view.setInt32(0, queue, true);
  check(libc.setsockoptAt(fd, so.IPPROTO_TCP, tcp.TCP_REPAIR_QUEUE, address, 4), "setsockopt", { fd, queue });
}

/** A queue of a socket in repair mode: the sequence number after it, and its bytes. */
export interface Queue {
  /** write_seq or rcv_nxt: a FIN is counted. */
  readonly seq: number;
  /** A FIN is not counted. */
  readonly bytes: Uint8Array;
}

const NOTHING = new Uint8Array();

/** Reads a queue and leaves it there, chosen. `mayHaveBytes` false spares two calls. */
export function readQueue(fd: number, queue: "send" | "receive", mayHaveBytes: boolean): Queue {
  chooseQueue(fd, queue === "send" ? tcp.TCP_SEND_QUEUE : tcp.TCP_RECV_QUEUE);
  const seq = readTcp(fd, tcp.TCP_QUEUE_SEQ);
  if (!mayHaveBytes) return { seq, bytes: NOTHING };
  check(libc.ioctlAt(fd, queue === "send" ? SIOCOUTQ : SIOCINQ, address), "ioctl", { fd, queue });
  const length = view.getInt32(0, true);
  if (length === 0) return { seq, bytes: NOTHING };
  const content = new Uint8Array(length);
  const read = check(Number(libc.recv(fd, content, length, so.MSG_PEEK | so.MSG_DONTWAIT)), "recv", {
    fd,
    queue,
  });
  return { seq, bytes: content.subarray(0, read) };
}

/** write_seq - snd_una: what the peer has not acknowledged, sent or not, a FIN counted. */
export function readUnacknowledged(fd: number): number {
  check(libc.ioctlAt(fd, SIOCOUTQ, address), "ioctl", { fd, request: "SIOCOUTQ" });
  return view.getInt32(0, true);
}

/** One end of a socket; `scope` is the interface of a link-local address, else 0. */
export function readEnd(fd: number, which: "local" | "remote"): TcpEnd & { readonly scope: number } {
  view.setUint32(LENGTH_AT, so.SOCKADDR_IN6_SIZE, true);
  const name = which === "local" ? "getsockname" : "getpeername";
  const call = which === "local" ? libc.getsocknameAt : libc.getpeernameAt;
  check(call(fd, address, address + LENGTH_AT), name, { fd });
  const v6 = view.getUint16(0, true) === so.AF_INET6;
  return {
    address: v6 ? bytes.slice(8, 24) : bytes.slice(4, 8),
    port: readU16(bytes, 2),
    scope: v6 ? view.getUint32(24, true) : 0,
  };
}
