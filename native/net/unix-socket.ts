/** Sockets of the unix family by path: what Node does not offer of them. */
import * as so from "../abi/socket.ts";
import { check } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";

// struct sockaddr_un: family u16, path of up to 108 bytes; an abstract name begins with a zero byte.
const PATH_AT = 2;
const PATH_BYTES_MAX = 107;
const LENGTH_AT = 128;
const memory = Memory.anonymous(4096);

/**
 * Sends one datagram to the socket at `path`; one that begins with @ is an abstract name. Throws SyscallError: ENOENT
 * or ECONNREFUSED when nobody is there, EAGAIN when its queue is full. Throws RangeError for a path that is too long.
 */
export function sendDatagram(path: string, text: string): void {
  using fd = new Fd(check(libc.socket(so.AF_UNIX, so.SOCK_DGRAM | so.SOCK_CLOEXEC, 0), "socket", { path }));
  const bytes = Buffer.from(text);
  const length = encodePath(path);
  const flags = so.MSG_NOSIGNAL | so.MSG_DONTWAIT;
  const sent = libc.sendto(fd.number, bytes, bytes.length, flags, memory.bytes.subarray(0, length), length);
  check(Number(sent), "sendto", { path });
}

/**
 * Listens at `path`, which must not exist; its mode is what the umask leaves. Close-on-exec, the caller's. Throws
 * SyscallError EADDRINUSE, ENOENT, EACCES.
 */
export function listenUnix(path: string, backlog: number): Fd {
  const fd = new Fd(check(libc.socket(so.AF_UNIX, so.SOCK_STREAM | so.SOCK_CLOEXEC, 0), "socket", { path }));
  try {
    const length = encodePath(path);
    check(libc.bindAt(fd.number, memory.address, length), "bind", { path });
    check(libc.listen(fd.number, backlog), "listen", { path });
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** The path a socket is bound to; undefined for one of another family or without. Throws SyscallError ENOTSOCK. */
export function unixPath(fd: number): string | undefined {
  memory.view.setUint32(LENGTH_AT, LENGTH_AT, true);
  check(libc.getsocknameAt(fd, memory.address, memory.address + LENGTH_AT), "getsockname", { fd });
  if (memory.view.getUint16(0, true) !== so.AF_UNIX) return undefined;
  const length = memory.view.getUint32(LENGTH_AT, true);
  const path = Buffer.from(memory.bytes.subarray(PATH_AT, length)).toString();
  return path === "" ? undefined : path.replace(/\0$/, "");
}

/** Is it a stream socket that listens? */
export function isListening(fd: number): boolean {
  return getOption(fd, so.SO_ACCEPTCONN) === 1 && getOption(fd, so.SO_TYPE) === so.SOCK_STREAM;
}

function getOption(fd: number, name: number): number | undefined {
  memory.view.setUint32(LENGTH_AT, 4, true);
  const result = libc.getsockoptAt(fd, so.SOL_SOCKET, name, memory.address, memory.address + LENGTH_AT);
  return result < 0 ? undefined : memory.view.getInt32(0, true);
}

/** Writes the address of a path; returns its length. */
function encodePath(path: string): number {
  const bytes = Buffer.from(path);
  if (bytes.length === 0 || bytes.length > PATH_BYTES_MAX) throw new RangeError(`unix socket: ${path}`);
  memory.bytes.fill(0, 0, LENGTH_AT);
  memory.view.setUint16(0, so.AF_UNIX, true);
  memory.bytes.set(bytes, PATH_AT);
  if (!path.startsWith("@")) return PATH_AT + bytes.length + 1;
  memory.bytes[PATH_AT] = 0;
  return PATH_AT + bytes.length;
}
