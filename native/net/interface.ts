/**
 * Interface set-up, so that no iproute2 is needed: by the classic ioctls, which are smaller than rtnetlink. Each function acts in the calling
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
} from "../abi/netdevice.ts";
import {
  IFINFOMSG_SIZE,
  IFLA_TXQLEN,
  NETLINK_ROUTE,
  NLM_F_ACK,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  NLMSGHDR_SIZE,
  RTATTR_SIZE,
  RTM_NEWLINK,
} from "../abi/rtnetlink.ts";
import { AF_INET, AF_INET6, AF_NETLINK, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_RAW } from "../abi/socket.ts";
import { check, SyscallError } from "../errno.ts";
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

/**
 * Sets how many packets may wait to be sent; on a TUN, to be read. By rtnetlink, because the ioctl for it wants
 * CAP_NET_ADMIN over the first network namespace. Throws SyscallError ENODEV, ENOMEM, EPERM.
 */
export function setTransmitQueue(name: string, packets: number): void {
  const attribute = NLMSGHDR_SIZE + IFINFOMSG_SIZE;
  const request = Buffer.alloc(attribute + RTATTR_SIZE + 4);
  request.writeUInt32LE(request.length, 0);
  request.writeUInt16LE(RTM_NEWLINK, 4);
  request.writeUInt16LE(NLM_F_REQUEST | NLM_F_ACK, 6);
  request.writeInt32LE(interfaceIndex(name), NLMSGHDR_SIZE + 4);
  request.writeUInt16LE(RTATTR_SIZE + 4, attribute);
  request.writeUInt16LE(IFLA_TXQLEN, attribute + 2);
  request.writeUInt32LE(packets, attribute + RTATTR_SIZE);
  askRtnetlink("RTM_NEWLINK", request);
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

/** Throws SyscallError ENODEV. */
export function interfaceIndex(name: string): number {
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

/** Sends one request and waits for its acknowledgement, which is there when sendto(2) returns. */
export function askRtnetlink(name: string, request: Uint8Array): void {
  using socket = new Fd(
    check(libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "socket", {
      family: "AF_NETLINK",
    }),
  );
  check(libc.sendto(socket.number, request, request.length, 0, null, 0), "sendto", { request: name });
  const reply = Buffer.alloc(4096);
  const length = check(libc.recv(socket.number, reply, reply.length, 0), "recv", { request: name });
  if (length < NLMSGHDR_SIZE + 4 || reply.readUInt16LE(4) !== NLMSG_ERROR) {
    throw new Error(`rtnetlink ${name}: an answer that is no acknowledgement`);
  }
  const errno = -reply.readInt32LE(NLMSGHDR_SIZE);
  if (errno !== 0) throw new SyscallError(`rtnetlink ${name}`, errno, {});
}
