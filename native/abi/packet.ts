// From include/linux/socket.h and include/uapi/linux/if_ether.h.
export const AF_PACKET = 17;
export const ETH_P_ARP = 0x0806;
export const ETH_P_IPV6 = 0x86dd;

// struct sockaddr_ll (include/uapi/linux/if_packet.h): 20 bytes.
export const SOCKADDR_LL_SIZE = 20;
export const SOCKADDR_LL = {
  sll_family: 0, // u16, host byte order
  sll_protocol: 2, // __be16
  sll_ifindex: 4, // int
  sll_hatype: 8,
  sll_pkttype: 10,
  sll_halen: 11,
  sll_addr: 12,
} as const;
