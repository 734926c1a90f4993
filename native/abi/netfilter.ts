// From include/uapi/linux/netfilter_ipv4.h and include/uapi/linux/netfilter_ipv6/ip6_tables.h.
export const SO_ORIGINAL_DST = 80;
export const IP6T_SO_ORIGINAL_DST = 80;
