/** Typed socket options. Every function throws SyscallError with the option's name in `args`. */
import { EPERM } from "./abi/errno.ts";
import { F_GETFL, F_SETFL, O_NONBLOCK } from "./abi/fcntl.ts";
import * as so from "./abi/socket.ts";
import * as tcp from "./abi/tcp.ts";
import { check, lastErrno, SyscallError } from "./errno.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const memory = Memory.anonymous(4096);
const LENGTH_AT = 2048;

function setInt(fd: number, level: number, name: number, value: number, option: string): void {
  memory.view.setInt32(0, value, true);
  check(libc.setsockoptAt(fd, level, name, memory.address, 4), "setsockopt", { fd, option, value });
}

function getInt(fd: number, level: number, name: number, option: string): number {
  memory.view.setUint32(LENGTH_AT, 4, true);
  const result = libc.getsockoptAt(fd, level, name, memory.address, memory.address + LENGTH_AT);
  check(result, "getsockopt", { fd, option });
  return memory.view.getInt32(0, true);
}

/** An option with an int value, by its numbers. */
export function setIntOption(fd: number, level: number, name: number, value: number): void {
  setInt(fd, level, name, value, `option ${name} of level ${level}`);
}

export function setReuseAddr(fd: number): void {
  setInt(fd, so.SOL_SOCKET, so.SO_REUSEADDR, 1, "SO_REUSEADDR");
}

/** Lets sockets of the same user listen on the same address, clients spread over them by a hash. */
export function setReusePort(fd: number): void {
  setInt(fd, so.SOL_SOCKET, so.SO_REUSEPORT, 1, "SO_REUSEPORT");
}

/** Has system calls on the socket wait, whatever its earlier user had set. */
export function setBlocking(fd: number): void {
  const flags = check(libc.fcntl(fd, F_GETFL, 0), "fcntl", { fd });
  check(libc.fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), "fcntl", { fd });
}

export function setNoDelay(fd: number): void {
  setInt(fd, so.IPPROTO_TCP, tcp.TCP_NODELAY, 1, "TCP_NODELAY");
}

/**
 * Of a socket about to connect: has the ACK of the SYN-ACK wait up to 0.2 s for data to leave with, and nothing else
 * (net/ipv4/tcp_input.c tcp_rcv_synsent_state_process(); on a listener it means something different).
 */
export function deferHandshakeAck(fd: number): void {
  setInt(fd, so.IPPROTO_TCP, tcp.TCP_DEFER_ACCEPT, 1, "TCP_DEFER_ACCEPT");
}

export function setV6Only(fd: number, on: boolean): void {
  setInt(fd, so.IPPROTO_IPV6, so.IPV6_V6ONLY, on ? 1 : 0, "IPV6_V6ONLY");
}

/**
 * Receive buffer in bytes: beyond net.core.rmem_max with CAP_NET_ADMIN in the first user namespace, else up
 * to it.
 */
export function setReceiveBuffer(fd: number, bytes: number): void {
  memory.view.setInt32(0, bytes, true);
  if (libc.setsockoptAt(fd, so.SOL_SOCKET, so.SO_RCVBUFFORCE, memory.address, 4) === 0) return;
  const errno = lastErrno();
  if (errno !== EPERM) throw new SyscallError("setsockopt", errno, { fd, option: "SO_RCVBUFFORCE" });
  setInt(fd, so.SOL_SOCKET, so.SO_RCVBUF, bytes, "SO_RCVBUF");
}

export function setTimestampNs(fd: number): void {
  setInt(fd, so.SOL_SOCKET, so.SO_TIMESTAMPNS, 1, "SO_TIMESTAMPNS");
}

/** The firewall mark of what this socket sends. EPERM without CAP_NET_ADMIN. */
export function setMark(fd: number, mark: number): void {
  setInt(fd, so.SOL_SOCKET, so.SO_MARK, mark, "SO_MARK");
}

/** Enters repair mode. EPERM without CAP_NET_ADMIN in the namespace's user namespace. */
export function setRepair(fd: number, on: boolean): void {
  setInt(fd, so.IPPROTO_TCP, tcp.TCP_REPAIR, on ? tcp.TCP_REPAIR_ON : tcp.TCP_REPAIR_OFF_NO_WP, "TCP_REPAIR");
}

/** The pending error of a socket, cleared by reading; 0 for none. */
export function takeSocketError(fd: number): number {
  return getInt(fd, so.SOL_SOCKET, so.SO_ERROR, "SO_ERROR");
}

/** TTL or hop limit that packets of this socket leave with. */
export function getHopLimit(fd: number, family: 4 | 6): number {
  const IP_TTL = 2;
  const IPV6_UNICAST_HOPS = 16;
  return family === 4
    ? getInt(fd, so.IPPROTO_IP, IP_TTL, "IP_TTL")
    : getInt(fd, so.IPPROTO_IPV6, IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS");
}

/** rcv_wnd of a socket in repair mode: the window its SYN would advertise. Source: tcp_repair_window. */
export function getRepairReceiveWindow(fd: number): number {
  memory.view.setUint32(LENGTH_AT, tcp.TCP_REPAIR_WINDOW_SIZE, true);
  const { address } = memory;
  const result = libc.getsockoptAt(fd, so.IPPROTO_TCP, tcp.TCP_REPAIR_WINDOW, address, address + LENGTH_AT);
  check(result, "getsockopt", { fd, option: "TCP_REPAIR_WINDOW" });
  return memory.view.getUint32(12, true);
}

/** close() then sends a RST instead of a FIN, and drops what was not sent. */
export function setLingerZero(fd: number): void {
  memory.view.setInt32(0, 1, true);
  memory.view.setInt32(4, 0, true);
  const result = libc.setsockoptAt(fd, so.SOL_SOCKET, so.SO_LINGER, memory.address, 8);
  check(result, "setsockopt", { fd, option: "SO_LINGER" });
}

/** The fields of struct tcp_info that we use; counts are since the socket was made or restored. */
export interface TcpInfo {
  readonly state: number;
  readonly unacked: number;
  readonly advmss: number;
  readonly rttUs: number;
  readonly totalRetrans: number;
  readonly bytesAcked: number;
  readonly bytesReceived: number;
  readonly segsOut: number;
}

const TCP_INFO_SIZE = 280;
// Offsets of struct tcp_info, include/uapi/linux/tcp.h. It grows: a shorter answer leaves zeros.
const TCPI = {
  state: 0,
  unacked: 24,
  advmss: 84,
  rtt: 68,
  total_retrans: 100,
  bytes_acked: 120,
  bytes_received: 128,
  segs_out: 136,
} as const;

/** Reads TCP_INFO. The kernel writes as much as it knows (tcpi_segs_out: since Linux 4.2). */
export function getTcpInfo(fd: number): TcpInfo {
  memory.bytes.fill(0, 0, TCP_INFO_SIZE);
  memory.view.setUint32(LENGTH_AT, TCP_INFO_SIZE, true);
  const { address, view } = memory;
  const result = libc.getsockoptAt(fd, so.IPPROTO_TCP, tcp.TCP_INFO, address, address + LENGTH_AT);
  check(result, "getsockopt", { fd, option: "TCP_INFO" });
  return {
    state: view.getUint8(TCPI.state),
    unacked: view.getUint32(TCPI.unacked, true),
    advmss: view.getUint32(TCPI.advmss, true),
    rttUs: view.getUint32(TCPI.rtt, true),
    totalRetrans: view.getUint32(TCPI.total_retrans, true),
    bytesAcked: Number(view.getBigUint64(TCPI.bytes_acked, true)),
    bytesReceived: Number(view.getBigUint64(TCPI.bytes_received, true)),
    segsOut: view.getUint32(TCPI.segs_out, true),
  };
}
