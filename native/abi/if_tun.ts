// From include/uapi/linux/if_tun.h.
export const TUNSETIFF = 0x400454ca; // _IOW('T', 202, int)
export const IFF_TUN = 0x0001;
export const IFF_NO_PI = 0x1000;
