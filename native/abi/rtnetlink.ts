// From include/uapi/linux/netlink.h.
export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
export const NLMSG_ERROR = 2;
export const NLM_F_REQUEST = 0x01;
export const NLM_F_ACK = 0x04;

// struct nlmsghdr: len u32, type u16, flags u16, seq u32, pid u32. Host byte order.
export const NLMSGHDR_SIZE = 16;

// From include/uapi/linux/rtnetlink.h and if_link.h.
export const RTM_NEWLINK = 16;
export const IFLA_TXQLEN = 13;

// struct ifinfomsg: family u8, pad u8, type u16, index int, flags u32, change u32.
export const IFINFOMSG_SIZE = 16;

// struct rtattr: len u16 (with this header), type u16; the value follows.
export const RTATTR_SIZE = 4;
