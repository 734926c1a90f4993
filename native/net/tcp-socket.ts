/** TCP sockets as the pool and the engine need them. Every function returns a descriptor its caller owns. */
import { POLLIN } from "../abi/poll.ts";
import * as so from "../abi/socket.ts";
import {
  decodeSockaddr,
  type Endpoint,
  encodeSockaddr,
  encodeSockaddrInto,
  parseAddress,
} from "../address.ts";
import { attachFilter, reservationFilter } from "../bpf/filters.ts";
import { attachProgram } from "../bpf/objects.ts";
import { check } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import {
  getHopLimit,
  getRepairReceiveWindow,
  getTcpInfo,
  setIntOption,
  setNoDelay,
  setRepair,
  setReuseAddr,
  setReusePort,
  setV6Only,
} from "../sockopt.ts";

const memory = Memory.anonymous(4096);
const LENGTH_AT = 2048;
/** A timespec of nothing. */
const ZERO_TIME = Memory.anonymous(16);

const domainOf = (address: Uint8Array) => (address.length === 4 ? so.AF_INET : so.AF_INET6);

function tcpSocket(domain: number, flags = 0): number {
  return check(libc.socket(domain, so.SOCK_STREAM | so.SOCK_CLOEXEC | flags, 0), "socket", { domain });
}

/** The address and port a socket is bound to. */
export function localEndpoint(fd: number): Endpoint {
  memory.view.setUint32(LENGTH_AT, so.SOCKADDR_IN6_SIZE, true);
  check(libc.getsocknameAt(fd, memory.address, memory.address + LENGTH_AT), "getsockname", { fd });
  const endpoint = decodeSockaddr(memory.bytes.slice(0, memory.view.getUint32(LENGTH_AT, true)));
  if (!endpoint) throw new Error("getsockname: not an internet address");
  return endpoint;
}

/** A socket bound to `endpoint` as servers bind theirs; IPv6 sockets take IPv6 only. */
function boundSocket(endpoint: Endpoint, reusePort: boolean, isAhead: boolean): Fd {
  const address = encodeSockaddr(endpoint);
  const v6 = address.length === so.SOCKADDR_IN6_SIZE;
  const fd = new Fd(tcpSocket(v6 ? so.AF_INET6 : so.AF_INET));
  try {
    setReuseAddr(fd.number);
    if (reusePort) setReusePort(fd.number);
    if (v6) setV6Only(fd.number, true);
    if (isAhead) setIntOption(fd.number, so.IPPROTO_IP, so.IP_FREEBIND, 1);
    check(libc.bind(fd.number, address, address.length), "bind", { ...endpoint });
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Throws SyscallError as listenTcp() when nothing could listen on `endpoint` alone. */
export function assertBindable(endpoint: Endpoint, isAhead = false): void {
  boundSocket(endpoint, false, isAhead).close();
}

/**
 * A listening socket for clients, with TCP_NODELAY, which accepted sockets inherit. With `reusePort` others of
 * the same user may listen beside it; with `isAhead` the address may be one that this host gets later.
 * Throws SyscallError EADDRINUSE, EACCES (port below 1024), EADDRNOTAVAIL.
 */
export function listenTcp(endpoint: Endpoint, backlog: number, reusePort = false, isAhead = false): Fd {
  const fd = boundSocket(endpoint, reusePort, isAhead);
  try {
    setNoDelay(fd.number);
    check(libc.listen(fd.number, backlog), "listen", { ...endpoint });
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/**
 * A client that waits in the backlog of a listening socket, without waiting for one. Its descriptor is
 * SOCK_NONBLOCK | SOCK_CLOEXEC and the caller's. Undefined when there is none, or no descriptor for it.
 */
export function acceptWaiting(fd: number): number | undefined {
  memory.view.setInt32(0, fd, true);
  memory.view.setUint32(4, POLLIN, true);
  if (libc.ppollAt(memory.address, 1, ZERO_TIME.address, 0) !== 1) return undefined;
  const client = libc.accept4(fd, null, null, so.SOCK_NONBLOCK | so.SOCK_CLOEXEC);
  return client < 0 ? undefined : client;
}

/** An unconnected TCP socket with TCP_NODELAY, for an ordinary connect to `family`. Throws EMFILE. */
export function newTcpSocket(family: 4 | 6, flags: number): Fd {
  const fd = new Fd(tcpSocket(family === 4 ? so.AF_INET : so.AF_INET6, flags));
  setNoDelay(fd.number);
  return fd;
}

/**
 * Lets a socket have addresses that are not this host's: of a listener also what TPROXY gives it; accepted sockets
 * inherit that. Throws SyscallError EPERM without CAP_NET_ADMIN or CAP_NET_RAW.
 */
export function setTransparent(fd: number): void {
  setIntOption(fd, so.IPPROTO_IP, so.IP_TRANSPARENT, 1); // of IPv6 sockets too: it is one bit
}

/**
 * Has an unconnected socket come from an address that need not be this host's; its port is chosen by connect(). Throws
 * SyscallError as setTransparent().
 */
export function bindSource(fd: number, address: Uint8Array): void {
  setTransparent(fd);
  setIntOption(fd, so.IPPROTO_IP, so.IP_BIND_ADDRESS_NO_PORT, 1);
  const length = encodeSockaddrInto(memory.bytes, address, 0);
  check(libc.bindAt(fd, memory.address, length), "bind", { fd });
}

/** A port held by a listening socket that answers nothing of a handshake. */
export interface Reservation {
  readonly fd: Fd;
  readonly port: number;
}

/** Keeps a port silent about handshakes from now on: by `program`, an eBPF socket filter, or by reservationFilter. */
export function guardPort(fd: Fd, program?: Fd): void {
  if (program === undefined) attachFilter(fd.number, reservationFilter);
  else attachProgram(fd.number, program);
}

/**
 * Reserves a port on all addresses, `port` or an ephemeral one: IPv4 alone, or both families where IPv6 exists. What
 * keeps it silent is `program`, an eBPF socket filter, or the classic reservationFilter, which takes 9 µs longer to
 * attach. With `besideOthers` it does not matter which sockets have the port; that needs CAP_NET_ADMIN.
 * Throws SyscallError EADDRINUSE when no port is left, or not this one, EMFILE.
 */
export function reservePort(
  dualStack: boolean,
  program?: Fd,
  { port = 0, besideOthers = false }: { readonly port?: number; readonly besideOthers?: boolean } = {},
): Reservation {
  return reserve(dualStack ? so.AF_INET6 : so.AF_INET, program, besideOthers, (fd) =>
    encodeAny(fd, dualStack, port),
  );
}

/**
 * Reserves an ephemeral port of one address that need not be this host's. Throws as reservePort(), and EPERM without
 * CAP_NET_ADMIN.
 */
export function reservePortOf(address: Uint8Array, program?: Fd): Reservation {
  return reserve(domainOf(address), program, false, (fd) => {
    setTransparent(fd.number);
    return encodeSockaddrInto(memory.bytes, address, 0);
  });
}

function reserve(
  domain: number,
  program: Fd | undefined,
  besideOthers: boolean,
  address: (fd: Fd) => number,
): Reservation {
  const fd = new Fd(tcpSocket(domain));
  try {
    // Before listen, so that no SYN is ever accepted.
    guardPort(fd, program);
    // SK_FORCE_REUSE. A listener cannot leave repair mode, which changes nothing about one.
    if (besideOthers) setRepair(fd.number, true);
    check(libc.bindAt(fd.number, memory.address, address(fd)), "bind", { domain });
    check(libc.listen(fd.number, 1), "listen", { domain });
    return { fd, port: localEndpoint(fd.number).port };
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Whether no socket has the port, on any address: not even one in TIME_WAIT. Throws SyscallError EMFILE. */
export function isPortFree(dualStack: boolean, port: number): boolean {
  using fd = new Fd(tcpSocket(dualStack ? so.AF_INET6 : so.AF_INET));
  return libc.bindAt(fd.number, memory.address, encodeAny(fd, dualStack, port)) === 0;
}

/** Writes every address of the families; returns its length. */
function encodeAny(fd: Fd, dualStack: boolean, port: number): number {
  if (dualStack) setV6Only(fd.number, false);
  return encodeSockaddrInto(memory.bytes, dualStack ? ANY_6 : ANY_4, port);
}

const ANY_4 = new Uint8Array(4);
const ANY_6 = new Uint8Array(16);

/** What this kernel would put into a SYN to a destination. */
export interface SynTemplate {
  /** Source address the route chooses. */
  readonly source: Uint8Array;
  /** MSS the SYN announces. */
  readonly advmss: number;
  /** Window field of the SYN, unscaled. */
  readonly window: number;
  readonly hopLimit: number;
}

/**
 * Asks the kernel instead of imitating it: connect() in repair mode does all of tcp_connect_init()
 * and sends nothing; closing in repair mode is silent too. From `from`, an address that need not be this host's, or
 * from the one that the route has.
 * Throws SyscallError ENETUNREACH or EHOSTUNREACH without a route, EPERM without CAP_NET_ADMIN.
 */
export function probeRoute(destination: Uint8Array, port: number, from?: Uint8Array): SynTemplate {
  using fd = new Fd(tcpSocket(domainOf(destination)));
  setRepair(fd.number, true);
  if (from !== undefined) bindSource(fd.number, from);
  const length = encodeSockaddrInto(memory.bytes, destination, port);
  check(libc.connectAt(fd.number, memory.address, length), "connect", { port });
  const source = parseAddress(localEndpoint(fd.number).address);
  if (!source) throw new Error("getsockname: no source address");
  return {
    source,
    advmss: getTcpInfo(fd.number).advmss,
    window: getRepairReceiveWindow(fd.number),
    hopLimit: getHopLimit(fd.number, destination.length === 4 ? 4 : 6),
  };
}
