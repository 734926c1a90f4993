import { EAGAIN, EINVAL, EIO, ENOBUFS } from "../abi/errno.ts";
import { O_CLOEXEC, O_NONBLOCK, O_RDWR } from "../abi/fcntl.ts";
import { IFF_NO_PI, IFF_TUN, TUNSETIFF } from "../abi/if_tun.ts";
import { IFNAMSIZ, IFREQ_SIZE, IFREQ_UNION } from "../abi/netdevice.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";

/**
 * A TUN interface: the kernel's routes lead packets into read(), write() makes packets arrive. One IP packet a
 * call, without a header of its own. The interface vanishes with close().
 */
export class Tun implements Disposable {
  readonly name: string;
  readonly fd: Fd;

  private constructor(name: string, fd: Fd) {
    this.name = name;
    this.fd = fd;
  }

  /**
   * Creates the interface `name` in the calling thread's network namespace, non-blocking and down.
   * Throws SyscallError: ENOENT or EACCES for /dev/net/tun, EPERM without CAP_NET_ADMIN over the namespace,
   * EBUSY when the name is taken. Source: drivers/net/tun.c tun_set_iff().
   */
  static open(name: string): Tun {
    const nameBytes = Buffer.from(name, "latin1");
    if (nameBytes.length === 0 || nameBytes.length >= IFNAMSIZ) {
      throw new RangeError(`interface name "${name}" is not 1 to ${IFNAMSIZ - 1} bytes`);
    }
    const path = "/dev/net/tun";
    const fd = new Fd(
      check(libc.open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0), "open", {
        path,
      }),
    );
    const request = Buffer.alloc(IFREQ_SIZE);
    nameBytes.copy(request);
    request.writeUInt16LE(IFF_TUN | IFF_NO_PI, IFREQ_UNION);
    try {
      check(libc.ioctl(fd.number, TUNSETIFF, request), "ioctl TUNSETIFF", { name });
    } catch (error) {
      fd.close();
      throw error;
    }
    return new Tun(name, fd);
  }

  /**
   * Takes the next packet the kernel sends, into `size` bytes at `address` (see Memory); a longer packet is cut.
   * Returns its length in bytes, or -1 when there is none now. Throws SyscallError EIO, EBADFD.
   */
  read(address: number, size: number): number {
    const length = libc.readAt(this.fd.number, address, size);
    if (length >= 0) return length;
    const errno = lastErrno();
    if (errno === EAGAIN) return -1;
    throw new SyscallError("read", errno, { interface: this.name });
  }

  /**
   * Lets a packet arrive at this interface. Returns false when the interface refuses it: it is down (EIO), the
   * kernel has no room (ENOBUFS), or the bytes begin like neither IPv4 nor IPv6 (EINVAL). Throws SyscallError.
   */
  write(address: number, length: number): boolean {
    if (libc.writeAt(this.fd.number, address, length) >= 0) return true;
    const errno = lastErrno();
    if (errno === EIO || errno === ENOBUFS || errno === EINVAL) return false;
    throw new SyscallError("write", errno, { interface: this.name, length });
  }

  close(): void {
    this.fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
