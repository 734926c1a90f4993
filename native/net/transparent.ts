/**
 * Where intercepted connections were meant to go. TPROXY leaves the destination as the accepted socket's own address;
 * REDIRECT rewrites it, and connection tracking remembers it.
 */
import { SO_ORIGINAL_DST } from "../abi/netfilter.ts";
import * as so from "../abi/socket.ts";
import { decodeSockaddr, type Endpoint } from "../address.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { localEndpoint } from "./tcp-socket.ts";

const memory = Memory.anonymous(4096);
const LENGTH_AT = 2048;

/**
 * Where the client of an accepted socket wanted to go. When that is the listener itself, nobody intercepted it.
 * Throws SyscallError ENOTCONN once the client has reset its connection.
 */
export function originalDestination(fd: number, listenerPort: number): Endpoint {
  const local = localEndpoint(fd);
  return local.port === listenerPort ? (trackedDestination(fd, local) ?? local) : local;
}

/** What connection tracking knows, if it tracks the connection. */
function trackedDestination(fd: number, { address }: Endpoint): Endpoint | undefined {
  const level = address.includes(":") ? so.IPPROTO_IPV6 : so.IPPROTO_IP;
  memory.view.setUint32(LENGTH_AT, so.SOCKADDR_IN6_SIZE, true);
  // IP6T_SO_ORIGINAL_DST has the same number.
  const result = libc.getsockoptAt(fd, level, SO_ORIGINAL_DST, memory.address, memory.address + LENGTH_AT);
  if (result < 0) return undefined;
  return decodeSockaddr(memory.bytes.slice(0, memory.view.getUint32(LENGTH_AT, true)));
}
