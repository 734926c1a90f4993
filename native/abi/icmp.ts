// From include/uapi/linux/in.h, in6.h, icmp.h and icmpv6.h.
export const IPPROTO_ICMP = 1;
export const IPPROTO_ICMPV6 = 58;
export const ICMP_ECHO = 8;
export const ICMP_ECHOREPLY = 0;
export const ICMPV6_ECHO_REQUEST = 128;
export const ICMPV6_ECHO_REPLY = 129;
