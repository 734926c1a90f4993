import { EINPROGRESS } from "../abi/errno.ts";
import * as so from "../abi/socket.ts";
import { TCP_FASTOPEN_CONNECT, TCP_NODELAY } from "../abi/tcp.ts";
import { type Endpoint, encodeSockaddr } from "../address.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";

const ON = Uint8Array.of(1, 0, 0, 0);

/**
 * A non-blocking socket that connects by TCP Fast Open: with a cookie of the server the SYN waits for the first
 * write and carries it; without one the SYN asks for it and leaves at once. Returns the descriptor, which the
 * caller owns. Throws SyscallError EOPNOTSUPP where net.ipv4.tcp_fastopen lacks its client bit.
 * Source: net/ipv4/tcp.c TCP_FASTOPEN_CONNECT, since Linux 4.11.
 */
export function connectFastOpen(endpoint: Endpoint): number {
  const address = encodeSockaddr(endpoint);
  const domain = address.length === so.SOCKADDR_IN6_SIZE ? so.AF_INET6 : so.AF_INET;
  const type = so.SOCK_STREAM | so.SOCK_CLOEXEC | so.SOCK_NONBLOCK;
  const fd = new Fd(check(libc.socket(domain, type, 0), "socket", { domain }));
  for (const option of [TCP_NODELAY, TCP_FASTOPEN_CONNECT]) {
    const result = libc.setsockopt(fd.number, so.IPPROTO_TCP, option, ON, ON.length);
    check(result, "setsockopt", { option });
  }
  if (libc.connect(fd.number, address, address.length) < 0) {
    const errno = lastErrno();
    if (errno !== EINPROGRESS) {
      fd.close();
      throw new SyscallError("connect", errno, { ...endpoint });
    }
  }
  return fd.release();
}
