/**
 * The restore plan: which socket operations, in which order, turn an image into a live socket.
 * A pure function, so that one order serves every executor (system calls, io_uring chain) and tests
 * can read it. Each line's place is a trap that was paid for: docs/internals/repair.md tells why.
 *
 * Read net/ipv4/tcp.c do_tcp_setsockopt() and net/ipv4/tcp_output.c tcp_connect_init() first.
 */
import {
  IP_BIND_ADDRESS_NO_PORT,
  IP_LOCAL_PORT_RANGE,
  IP_OPTIONS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
} from "../abi/socket.ts";
import * as tcp from "../abi/tcp.ts";
import { seqAdd } from "../wire/seq.ts";
import { isIpv4 } from "./held.ts";
import type { TcpImage } from "./image.ts";
import * as ops from "./ops.ts";
import { optionOps, type RepairOp, setInt, setTcp } from "./ops.ts";
import { hasTheirFin, queueOps } from "./plan-queues.ts";

// net/ipv4/tcp.c accepts TCP_MAXSEG of TCP_MIN_MSS..MAX_TCP_WINDOW.
const TCP_MIN_MSS = 88;
const MAX_TCP_WINDOW = 32767;

// With timestamps every segment carries 12 bytes of options (include/net/tcp.h TCPOLEN_TSTAMP_ALIGNED).
export const TCPOLEN_TSTAMP_ALIGNED = 12;

// An empty IP option list changes nothing but makes the kernel compute mss_cache again from the clamp
// (net/ipv4/ip_sockglue.c, icsk_sync_mss). At the IP level for IPv6 sockets too: ipv6_setsockopt() passes
// it on, while an empty IPV6_HOPOPTS does not sync.
const SYNC_MSS: RepairOp = { op: "setBytes", level: IPPROTO_IP, name: IP_OPTIONS, bytes: new Uint8Array() };
const ANY_VERSION = setInt(IPPROTO_IPV6, IPV6_V6ONLY, 0);
const ANY_PORT_RANGE = setInt(IPPROTO_IP, IP_LOCAL_PORT_RANGE, 0);

/**
 * TCP_MAXSEG for connect(), which takes it for advmss and for the peer's MSS. An ordinary connection
 * takes the timestamps off advmss when the SYN-ACK brings them (tcp_rcv_synsent_state_process). 0, which leaves it to
 * the route, where the kernel refuses the number (loopback).
 */
function maxseg(image: TcpImage): number {
  const timestamps = image.tsval !== undefined && image.live?.state !== "SYN_SENT";
  const advmss = image.advmss - (timestamps ? TCPOLEN_TSTAMP_ALIGNED : 0);
  return advmss > MAX_TCP_WINDOW ? 0 : Math.max(advmss, TCP_MIN_MSS);
}

/**
 * The ordered operations that restore `image`. Of a half-open they leave an established socket, and no packet
 * leaves before the last of them, nor by it. Of a live connection they leave a socket in repair mode; in SYN_SENT
 * its SYN is sent, in the other states where the peer's FIN came the kernel answers it: what the guard is for.
 */
export function restorePlan(image: TcpImage): readonly RepairOp[] {
  const { live } = image;
  const v6 = image.remote.address.length === 16;
  const plan: RepairOp[] = [
    v6 ? ops.SOCKET_6 : ops.SOCKET_4,
    ops.ENTER,
    // Before connect, which computes advmss and the buffer sizes from it.
    setTcp(tcp.TCP_MAXSEG, maxseg(image)),
  ];
  for (const { level, name, value } of image.options) plan.push(setInt(level, name, value));
  if (live !== undefined) plan.push(...optionOps(live.options, "connect"));
  // A new IPv6 socket may be for IPv6 alone (net.ipv6.bindv6only); bind() to an IPv6 address makes it so anyway.
  if (v6 && isIpv4(image.remote.address)) plan.push(ANY_VERSION);
  const isSynSent = live?.state === "SYN_SENT";
  if (live?.portChosen && !isSynSent) plan.push(...choosingOps(image));
  else plan.push({ op: "bind", end: image.local });
  if (isSynSent) plan.push(...synSentOps(image));
  else plan.push(...connectionOps(image));
  if (live === undefined) plan.push(ops.LEAVE);
  else plan.push(...optionOps(live.options, "window"));
  return plan;
}

function connectionOps(image: TcpImage): RepairOp[] {
  const { live } = image;
  const plan: RepairOp[] = [
    ops.RECV_QUEUE,
    setTcp(tcp.TCP_QUEUE_SEQ, receiveStart(image)),
    ops.SEND_QUEUE,
    setTcp(tcp.TCP_QUEUE_SEQ, sendStart(image)), // EPERM after connect
    { op: "connect", end: image.remote },
    { op: "setOptions", options: negotiated(image) },
    SYNC_MSS,
  ];
  if (image.tsval !== undefined) plan.push(setTcp(tcp.TCP_TIMESTAMP, image.tsval));
  if (live?.portChosen) plan.push(ANY_PORT_RANGE);
  if (live !== undefined) plan.push(...queueOps(image, live), ...optionOps(live.options, "queues"));
  plan.push({ op: "setWindow", window: image.window });
  return plan;
}

/**
 * Connecting again with the same iss, outside repair mode, in which connect() sends nothing. A TSval clock can
 * only be set afterwards: the guard keeps the first SYN, the kernel's repetition a second later has the right one.
 */
function synSentOps(image: TcpImage): RepairOp[] {
  const { live, snd_una, tsval } = image;
  const plan: RepairOp[] = [
    ops.SEND_QUEUE,
    setTcp(tcp.TCP_QUEUE_SEQ, snd_una),
    ops.LEAVE,
    { op: "startConnect", end: image.remote },
    ops.ENTER,
  ];
  if (tsval !== undefined) plan.push(setTcp(tcp.TCP_TIMESTAMP, tsval));
  return [...plan, ...optionOps(live?.options ?? [], "queues")];
}

/**
 * Lets connect() choose from one port. Unlike after bind() others may then share it for other destinations. Where
 * the port is not of net.ipv4.ip_local_port_range the kernel ignores the wish and takes another one: not in SYN_SENT,
 * whose SYN would leave from there.
 */
function choosingOps({ local: { address, port } }: Pick<TcpImage, "local">): RepairOp[] {
  return [
    setInt(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1),
    setInt(IPPROTO_IP, IP_LOCAL_PORT_RANGE, port | (port << 16)),
    { op: "bind", end: { address, port: 0 } },
  ];
}

/** A socket in repair mode, connected from a port that only the kernel may choose. For isPortChosen(). */
export function choosingPlan(ends: Pick<TcpImage, "local" | "remote">): readonly RepairOp[] {
  const socket = ends.remote.address.length === 16 ? ops.SOCKET_6 : ops.SOCKET_4;
  return [socket, ops.ENTER, ...choosingOps(ends), { op: "connect", end: ends.remote }];
}

/** Sequence number of the first byte that the receive queue will hold. */
function receiveStart({ rcv_nxt, live }: TcpImage): number {
  if (live === undefined) return rcv_nxt;
  return seqAdd(rcv_nxt, -live.received.length - (hasTheirFin(live.state) ? 1 : 0));
}

/** The same of the send queue: snd_una, or our FIN when that is all the peer has acknowledged last. */
function sendStart({ snd_una, live }: TcpImage): number {
  return live?.state === "FIN_WAIT2" ? seqAdd(snd_una, -1) : snd_una;
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
