// From include/uapi/asm-generic/poll.h.
export const POLLIN = 0x0001;
export const POLLOUT = 0x0004;
export const POLLERR = 0x0008;
export const POLLHUP = 0x0010;

// struct pollfd: fd int, events short, revents short. 8 bytes.
export const POLLFD_SIZE = 8;
