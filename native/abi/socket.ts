// From include/linux/socket.h, include/uapi/asm-generic/socket.h and include/uapi/linux/in.h, in6.h.
export const AF_UNSPEC = 0;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_TYPE = 3;
export const SO_ERROR = 4;
export const SO_DONTROUTE = 5;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_OOBINLINE = 10;
export const SO_PRIORITY = 12;
export const SO_LINGER = 13;
export const SO_REUSEPORT = 15;
export const SO_RCVLOWAT = 18;
export const SO_BINDTODEVICE = 25;
export const SO_ATTACH_FILTER = 26;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const SO_MARK = 36;
export const SO_PROTOCOL = 38;
export const SO_ACCEPTCONN = 30;
export const SO_TIMESTAMPNS = 35;
export const SO_INCOMING_CPU = 49;
export const SO_BUF_LOCK = 72;
export const SO_ATTACH_BPF = 50;

export const SHUT_RD = 0;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;

export const MSG_PEEK = 0x2;
export const MSG_DONTWAIT = 0x40;
export const MSG_TRUNC = 0x20;
export const MSG_WAITALL = 0x100;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const MSG_CTRUNC = 0x8;
export const MSG_CMSG_CLOEXEC = 0x4000_0000;

// Ancillary data of unix sockets; SCM_MAX_FD is from include/net/scm.h.
export const SCM_RIGHTS = 1;
export const SCM_MAX_FD = 253;

export const IPPROTO_IP = 0;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_RAW = 255;

export const IPPROTO_MPTCP = 262;

export const IP_TOS = 1;
export const IP_TTL = 2;
export const IP_HDRINCL = 3;
export const IP_OPTIONS = 4;
export const IP_MTU_DISCOVER = 10;
export const IP_FREEBIND = 15;
export const IP_MTU = 14;
export const IP_TRANSPARENT = 19;
export const IP_BIND_ADDRESS_NO_PORT = 24;
export const IP_LOCAL_PORT_RANGE = 51;
export const IPV6_UNICAST_HOPS = 16;
export const IPV6_MTU_DISCOVER = 23;
export const IPV6_MTU = 24;
export const IPV6_V6ONLY = 26;
export const IPV6_HDRINCL = 36;
export const IPV6_RECVPKTINFO = 49;
export const IPV6_PKTINFO = 50;
export const IPV6_TCLASS = 67;

// struct sockaddr_in: family u16 (host order), port u16 (network order), address 4 bytes, 8 bytes of zero.
export const SOCKADDR_IN_SIZE = 16;
// struct sockaddr_in6: family u16, port u16, flowinfo u32, address 16 bytes, scope_id u32.
export const SOCKADDR_IN6_SIZE = 28;
