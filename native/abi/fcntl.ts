// From include/uapi/asm-generic/fcntl.h; the same on x86-64 and arm64.
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
// From include/uapi/asm-generic/fcntl.h: commands of fcntl(2).
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_SETFD = 2;
export const FD_CLOEXEC = 1;
