/**
 * The restore plan: which socket operations, in which order, turn an image into a live socket.
 * A pure function, so that one order serves every executor (system calls, io_uring chain) and tests
 * can read it. Each line's place is a trap that was paid for: docs/internals/repair.md tells why.
 *
 * Read net/ipv4/tcp.c do_tcp_setsockopt() and net/ipv4/tcp_output.c tcp_connect_init() first.
 */
import { IP_OPTIONS, IPPROTO_IP, IPPROTO_TCP } from "../abi/socket.ts";
import * as tcp from "../abi/tcp.ts";
import type { RepairWindow, TcpEnd, TcpImage } from "./image.ts";

export type RepairOp =
  | { readonly op: "socket"; readonly family: 4 | 6 }
  | { readonly op: "setInt"; readonly level: number; readonly name: number; readonly value: number }
  | { readonly op: "setEmpty"; readonly level: number; readonly name: number }
  | { readonly op: "setOptions"; readonly options: readonly (readonly [code: number, value: number])[] }
  | { readonly op: "setWindow"; readonly window: RepairWindow }
  | { readonly op: "bind"; readonly end: TcpEnd }
  | { readonly op: "connect"; readonly end: TcpEnd };

// net/ipv4/tcp.c accepts TCP_MAXSEG of TCP_MIN_MSS..MAX_TCP_WINDOW.
const TCP_MIN_MSS = 88;
const MAX_TCP_WINDOW = 32767;

// With timestamps every segment carries 12 bytes of options (include/net/tcp.h TCPOLEN_TSTAMP_ALIGNED).
const TCPOLEN_TSTAMP_ALIGNED = 12;

const tcpInt = (name: number, value: number): RepairOp => ({
  op: "setInt",
  level: IPPROTO_TCP,
  name,
  value,
});

const ENTER = tcpInt(tcp.TCP_REPAIR, tcp.TCP_REPAIR_ON);
const LEAVE = tcpInt(tcp.TCP_REPAIR, tcp.TCP_REPAIR_OFF_NO_WP);
const RECV_QUEUE = tcpInt(tcp.TCP_REPAIR_QUEUE, tcp.TCP_RECV_QUEUE);
const SEND_QUEUE = tcpInt(tcp.TCP_REPAIR_QUEUE, tcp.TCP_SEND_QUEUE);
const SOCKET_4: RepairOp = { op: "socket", family: 4 };
const SOCKET_6: RepairOp = { op: "socket", family: 6 };
// An empty IP option list changes nothing but makes the kernel compute mss_cache again from the clamp
// (net/ipv4/ip_sockglue.c, icsk_sync_mss). At the IP level for IPv6 sockets too: ipv6_setsockopt() passes
// it on, while an empty IPV6_HOPOPTS does not sync.
const SYNC_MSS: RepairOp = { op: "setEmpty", level: IPPROTO_IP, name: IP_OPTIONS };

/**
 * TCP_MAXSEG for connect(), which takes it for advmss and for the peer's MSS. An ordinary connection
 * takes the timestamps off advmss when the SYN-ACK brings them (tcp_rcv_synsent_state_process).
 */
function maxseg(image: TcpImage): number {
  const advmss = image.advmss - (image.tsval === undefined ? 0 : TCPOLEN_TSTAMP_ALIGNED);
  return Math.min(Math.max(advmss, TCP_MIN_MSS), MAX_TCP_WINDOW);
}

/**
 * The ordered operations that restore `image`. No packet leaves before the plan's last operation, nor by it.
 */
export function restorePlan(image: TcpImage): readonly RepairOp[] {
  const v6 = image.remote.address.length === 16;
  const plan: RepairOp[] = [
    v6 ? SOCKET_6 : SOCKET_4,
    ENTER,
    // Before connect, which computes advmss and the buffer sizes from it.
    tcpInt(tcp.TCP_MAXSEG, maxseg(image)),
  ];
  for (const { level, name, value } of image.options) plan.push({ op: "setInt", level, name, value });
  plan.push(
    { op: "bind", end: image.local },
    RECV_QUEUE,
    tcpInt(tcp.TCP_QUEUE_SEQ, image.rcv_nxt),
    SEND_QUEUE,
    tcpInt(tcp.TCP_QUEUE_SEQ, image.snd_una), // EPERM after connect
    { op: "connect", end: image.remote },
    { op: "setOptions", options: negotiated(image) },
    SYNC_MSS,
  );
  if (image.tsval !== undefined) plan.push(tcpInt(tcp.TCP_TIMESTAMP, image.tsval));
  plan.push({ op: "setWindow", window: image.window }, LEAVE);
  return plan;
}

/**
 * TCP_REPAIR_OPTIONS. The window entry is always there: 0|0<<16 says "no scaling", without it the
 * kernel keeps the shift connect() chose and we would advertise a window of 63 bytes.
 */
function negotiated(image: TcpImage): readonly (readonly [number, number])[] {
  const { snd_wscale, rcv_wscale } = image.wscale ?? { snd_wscale: 0, rcv_wscale: 0 };
  const options: [number, number][] = [
    [tcp.TCPOPT_MSS, image.mss_clamp],
    [tcp.TCPOPT_WINDOW, (snd_wscale | (rcv_wscale << 16)) >>> 0],
  ];
  if (image.sackPermitted) options.push([tcp.TCPOPT_SACK_PERM, 0]);
  if (image.tsval !== undefined) options.push([tcp.TCPOPT_TIMESTAMP, 0]);
  return options;
}
