// From include/uapi/linux/capability.h.
export const CAP_NET_ADMIN = 12;
export const CAP_NET_RAW = 13;
/** More than any kernel has. */
export const CAPABILITIES_MAX = 64;

export const _LINUX_CAPABILITY_VERSION_3 = 0x2008_0522;
// struct __user_cap_header_struct: version u32, pid int. struct __user_cap_data_struct, twice: effective, permitted,
// inheritable, u32 each; the first has capabilities 0 to 31.
export const CAPABILITY_HEADER_SIZE = 8;
export const CAPABILITY_DATA_SIZE = 24;
