// From include/uapi/linux/sockios.h.
export const SIOCADDRT = 0x890b;
export const SIOCGIFFLAGS = 0x8913;
export const SIOCSIFFLAGS = 0x8914;
export const SIOCSIFADDR = 0x8916;
export const SIOCSIFNETMASK = 0x891c;
export const SIOCSIFMTU = 0x8922;
export const SIOCGIFINDEX = 0x8933;

// From include/uapi/linux/if.h.
export const IFF_UP = 0x1;
export const IFNAMSIZ = 16;

// struct ifreq, 64-bit: ifr_name[16], then a union of 24 bytes: flags short, mtu and ifindex int, or a
// struct sockaddr.
export const IFREQ_SIZE = 40;
export const IFREQ_UNION = 16;

// struct in6_ifreq, include/uapi/linux/ipv6.h: ifr6_addr 16 bytes, ifr6_prefixlen u32, ifr6_ifindex int.
export const IN6_IFREQ_SIZE = 24;

// struct rtentry, include/uapi/linux/route.h, 64-bit, 120 bytes: three struct sockaddr, u16 flags, a pointer to
// the name of the device.
export const RTENTRY_SIZE = 120;
export const RTENTRY = { rt_dst: 8, rt_gateway: 24, rt_genmask: 40, rt_flags: 56, rt_dev: 88 } as const;

// struct in6_rtmsg, include/uapi/linux/ipv6_route.h, 64-bit, 80 bytes.
export const IN6_RTMSG_SIZE = 80;
export const IN6_RTMSG = { rtmsg_metric: 56, rtmsg_flags: 72, rtmsg_ifindex: 76 } as const;
export const RTF_UP = 0x0001;
