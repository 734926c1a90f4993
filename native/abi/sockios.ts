// From include/uapi/linux/sockios.h and include/uapi/asm-generic/ioctls.h.
export const SIOCINQ = 0x541b;
export const SIOCOUTQ = 0x5411;
