// From include/uapi/linux/eventpoll.h and include/uapi/asm-generic/unistd.h.
export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x8000_0000;

/** Linux 5.11; the same number on every architecture. */
export const SYS_epoll_pwait2 = 441;

// struct epoll_event: events u32, data u64. Packed on x86-64 only (EPOLL_PACKED), where data is at 4.
export const epoll_event =
  process.arch === "x64"
    ? ({ events: 0, data: 4, size: 12 } as const)
    : ({ events: 0, data: 8, size: 16 } as const);
