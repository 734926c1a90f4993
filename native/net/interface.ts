/**
 * Interface set-up by the classic ioctls, so that no iproute2 is needed. Each function acts in the calling
 * thread's network namespace (see netns.ts). Read net/ipv4/devinet.c:devinet_ioctl() and
 * net/ipv6/addrconf.c:addrconf_add_ifaddr() first.
 */
import {
  IFF_UP,
  IFNAMSIZ,
  IFREQ_SIZE,
  IFREQ_UNION,
  IN6_IFREQ_SIZE,
  IN6_RTMSG,
  IN6_RTMSG_SIZE,
  RTENTRY,
  RTENTRY_SIZE,
  RTF_UP,
  SIOCADDRT,
  SIOCGIFFLAGS,
  SIOCGIFINDEX,
  SIOCSIFADDR,
  SIOCSIFFLAGS,
  SIOCSIFMTU,
  SIOCSIFNETMASK,
  SIOCSIFTXQLEN,
} from "../abi/netdevice.ts";
import { AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_DGRAM } from "../abi/socket.ts";
import { check } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";

/** Brings an interface up. Throws SyscallError ENODEV, EPERM. */
export function bringUp(name: string): void {
  const request = interfaceRequest(name);
  control(AF_INET, SIOCGIFFLAGS, "SIOCGIFFLAGS", request);
  request.writeUInt16LE(request.readUInt16LE(IFREQ_UNION) | IFF_UP, IFREQ_UNION);
  control(AF_INET, SIOCSIFFLAGS, "SIOCSIFFLAGS", request);
}

/** Sets the largest packet in bytes. Throws SyscallError ENODEV, EINVAL, EPERM. */
export function setMtu(name: string, bytes: number): void {
  setNumber(name, SIOCSIFMTU, "SIOCSIFMTU", bytes);
}

/** Sets how many packets may wait to be sent; on a TUN, to be read. Throws SyscallError ENODEV, ENOMEM, EPERM. */
export function setTransmitQueue(name: string, packets: number): void {
  setNumber(name, SIOCSIFTXQLEN, "SIOCSIFTXQLEN", packets);
}

/**
 * Gives an interface its IPv4 address with the network's route, once it is up. `address` is 4 bytes.
 * Throws SyscallError ENODEV, EPERM.
 */
export function addAddress4(name: string, address: Uint8Array, prefixLength: number): void {
  control(AF_INET, SIOCSIFADDR, "SIOCSIFADDR", addressRequest(name, address));
  control(AF_INET, SIOCSIFNETMASK, "SIOCSIFNETMASK", addressRequest(name, netmask4(prefixLength)));
}

/** Adds an IPv6 address with the network's route. `address` is 16 bytes. Throws SyscallError ENODEV, EEXIST, EPERM. */
export function addAddress6(name: string, address: Uint8Array, prefixLength: number): void {
  const request = Buffer.alloc(IN6_IFREQ_SIZE);
  request.set(address, 0);
  request.writeUInt32LE(prefixLength, 16);
  request.writeInt32LE(interfaceIndex(name), 20);
  control(AF_INET6, SIOCSIFADDR, "SIOCSIFADDR", request);
}

/** Sends all IPv4 packets without a better route to an interface that is up. Throws SyscallError EEXIST, EPERM. */
export function addDefaultRoute4(name: string): void {
  const memory = Memory.anonymous(RTENTRY_SIZE + IFNAMSIZ);
  try {
    for (const field of [RTENTRY.rt_dst, RTENTRY.rt_gateway, RTENTRY.rt_genmask]) {
      memory.view.setUint16(field, AF_INET, true);
    }
    memory.view.setUint16(RTENTRY.rt_flags, RTF_UP, true);
    memory.view.setBigUint64(RTENTRY.rt_dev, BigInt(memory.address + RTENTRY_SIZE), true);
    memory.bytes.set(Buffer.from(name, "latin1"), RTENTRY_SIZE);
    control(AF_INET, SIOCADDRT, "SIOCADDRT", memory.bytes.subarray(0, RTENTRY_SIZE));
  } finally {
    memory.close();
  }
}

/** Sends all IPv6 packets without a better route to an interface that is up. Throws SyscallError EEXIST, EPERM. */
export function addDefaultRoute6(name: string): void {
  const request = Buffer.alloc(IN6_RTMSG_SIZE);
  request.writeUInt32LE(1024, IN6_RTMSG.rtmsg_metric);
  request.writeUInt32LE(RTF_UP, IN6_RTMSG.rtmsg_flags);
  request.writeInt32LE(interfaceIndex(name), IN6_RTMSG.rtmsg_ifindex);
  control(AF_INET6, SIOCADDRT, "SIOCADDRT", request);
}

function interfaceIndex(name: string): number {
  const request = interfaceRequest(name);
  control(AF_INET, SIOCGIFINDEX, "SIOCGIFINDEX", request);
  return request.readInt32LE(IFREQ_UNION);
}

function setNumber(name: string, command: number, commandName: string, value: number): void {
  const request = interfaceRequest(name);
  request.writeInt32LE(value, IFREQ_UNION);
  control(AF_INET, command, commandName, request);
}

function interfaceRequest(name: string): Buffer {
  const nameBytes = Buffer.from(name, "latin1");
  if (nameBytes.length >= IFNAMSIZ) throw new RangeError(`interface name "${name}" is too long`);
  const request = Buffer.alloc(IFREQ_SIZE);
  nameBytes.copy(request);
  return request;
}

/** An ifreq whose union is a sockaddr_in. */
function addressRequest(name: string, address: Uint8Array): Buffer {
  const request = interfaceRequest(name);
  request.writeUInt16LE(AF_INET, IFREQ_UNION);
  request.set(address, IFREQ_UNION + 4);
  return request;
}

function netmask4(prefixLength: number): Uint8Array {
  const mask = Buffer.alloc(4);
  mask.writeUInt32BE(prefixLength === 0 ? 0 : (0xffffffff << (32 - prefixLength)) >>> 0);
  return mask;
}

function control(family: number, command: number, name: string, request: Uint8Array): void {
  using socket = new Fd(check(libc.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket", { family }));
  check(libc.ioctl(socket.number, command, request), `ioctl ${name}`, {});
}
