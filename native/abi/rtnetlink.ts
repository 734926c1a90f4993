// From include/uapi/linux/netlink.h.
export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
export const NLMSG_ERROR = 2;
export const NLM_F_REQUEST = 0x01;
export const NLM_F_ACK = 0x04;

export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

// struct nlmsghdr: len u32, type u16, flags u16, seq u32, pid u32. Host byte order.
export const NLMSGHDR_SIZE = 16;

// From include/uapi/linux/rtnetlink.h and if_link.h.
export const RTM_NEWLINK = 16;
export const IFLA_TXQLEN = 13;

// struct ifinfomsg: family u8, pad u8, type u16, index int, flags u32, change u32.
export const IFINFOMSG_SIZE = 16;

// struct rtattr: len u16 (with this header), type u16; the value follows.
export const RTATTR_SIZE = 4;

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;

// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type u8, flags u32.
export const RTMSG_SIZE = 12;
export const RTA_OIF = 4;
export const RTA_TABLE = 15;
export const RTPROT_STATIC = 4;
export const RT_SCOPE_HOST = 254;
export const RTN_LOCAL = 2;

// From include/uapi/linux/fib_rules.h. struct fib_rule_hdr: family, dst_len, src_len, tos, table, 2 reserved, action u8, flags u32.
export const FIB_RULE_HDR_SIZE = 12;
export const FRA_PRIORITY = 6;
export const FRA_FWMARK = 10;
export const FRA_TABLE = 15;
export const FR_ACT_TO_TBL = 1;
