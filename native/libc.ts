import koffi from "koffi";

/**
 * The only koffi.load() and every C prototype.
 *
 * Two flavours of pointer: `void *` takes a typed array, `null` or an address as bigint, and costs 130 ns
 * more than `intptr_t`, which takes an address as a number (see memory.ts) and is for hot paths. A typed
 * array lent to a call that keeps the pointer (io_uring) must live in memory.ts, because V8 moves small ones.
 */
const lib = koffi.load("libc.so.6");

// From pwd.h of the GNU C library on 64-bit.
koffi.struct("passwd", {
  pw_name: "str", // 0
  pw_passwd: "str", // 8
  pw_uid: "uint32_t", // 16
  pw_gid: "uint32_t", // 20
  pw_gecos: "str", // 24
  pw_dir: "str", // 32
  pw_shell: "str", // 40
});
export interface PasswdEntry {
  readonly pw_uid: number;
  readonly pw_gid: number;
}

export const libc = {
  socket: lib.func("int socket(int domain, int type, int protocol)"),
  bind: lib.func("int bind(int fd, const void *addr, uint32_t len)"),
  connect: lib.func("int connect(int fd, const void *addr, uint32_t len)"),
  listen: lib.func("int listen(int fd, int backlog)"),
  accept4: lib.func("int accept4(int fd, void *addr, void *len, int flags)"),
  getsockname: lib.func("int getsockname(int fd, _Out_ void *addr, _Inout_ void *len)"),
  getpeername: lib.func("int getpeername(int fd, _Out_ void *addr, _Inout_ void *len)"),
  setsockopt: lib.func("int setsockopt(int fd, int level, int name, const void *value, uint32_t len)"),
  getsockopt: lib.func("int getsockopt(int fd, int level, int name, _Out_ void *value, _Inout_ void *len)"),
  shutdown: lib.func("int shutdown(int fd, int how)"),
  close: lib.func("int close(int fd)"),
  read: lib.func("intptr_t read(int fd, void *buf, size_t len)"),
  write: lib.func("intptr_t write(int fd, const void *buf, size_t len)"),
  open: lib.func("int open(const char *path, int flags, uint32_t mode)"),
  sendto: lib.func(
    "intptr_t sendto(int fd, const void *buf, size_t len, int flags, const void *addr, uint32_t alen)",
  ),
  recv: lib.func("intptr_t recv(int fd, void *buf, size_t len, int flags)"),
  recvmsg: lib.func("intptr_t recvmsg(int fd, void *msg, int flags)"),
  fcntl: lib.func("int fcntl(int fd, int cmd, int arg)"),
  ioctl: lib.func("int ioctl(int fd, unsigned long request, void *arg)"),
  poll: lib.func("int poll(void *fds, unsigned long nfds, int timeoutMs)"),
  ppoll: lib.func("int ppoll(void *fds, unsigned long nfds, const void *timeout, const void *sigmask)"),
  epoll_create1: lib.func("int epoll_create1(int flags)"),
  epoll_ctl: lib.func("int epoll_ctl(int epfd, int op, int fd, intptr_t event)"),
  epoll_wait: lib.func("int epoll_wait(int epfd, intptr_t events, int maxevents, int timeoutMs)"),
  eventfd: lib.func("int eventfd(uint32_t initial, int flags)"),
  setns: lib.func("int setns(int fd, int nstype)"),
  unshare: lib.func("int unshare(int flags)"),
  prctl: lib.func(
    "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)",
  ),
  getpwnam: lib.func("passwd *getpwnam(const char *name)"),
  initgroups: lib.func("int initgroups(const char *name, uint32_t gid)"),
  setresgid: lib.func("int setresgid(uint32_t rgid, uint32_t egid, uint32_t sgid)"),
  setresuid: lib.func("int setresuid(uint32_t ruid, uint32_t euid, uint32_t suid)"),
  capget: lib.func("int capget(intptr_t header, intptr_t data)"),
  capset: lib.func("int capset(intptr_t header, intptr_t data)"),
  execve: lib.func("int execve(const char *path, const char **argv, const char **envp)"),
  _exit: lib.func("void _exit(int status)"),
  sched_setscheduler: lib.func("int sched_setscheduler(int pid, int policy, const void *param)"),
  mmap: lib.func("intptr_t mmap(intptr_t addr, size_t len, int prot, int flags, int fd, int64_t offset)"),
  munmap: lib.func("int munmap(intptr_t addr, size_t len)"),
  syscall6: lib.func("syscall", "long", ["long", "long", "long", "long", "long", "long", "long"]),

  // The same calls with addresses as numbers.
  setsockoptAt: lib.func("setsockopt", "int", ["int", "int", "int", "intptr_t", "uint32_t"]),
  getsockoptAt: lib.func("getsockopt", "int", ["int", "int", "int", "intptr_t", "intptr_t"]),
  bindAt: lib.func("bind", "int", ["int", "intptr_t", "uint32_t"]),
  connectAt: lib.func("connect", "int", ["int", "intptr_t", "uint32_t"]),
  getsocknameAt: lib.func("getsockname", "int", ["int", "intptr_t", "intptr_t"]),
  getpeernameAt: lib.func("getpeername", "int", ["int", "intptr_t", "intptr_t"]),
  ioctlAt: lib.func("ioctl", "int", ["int", "unsigned long", "intptr_t"]),
  sendtoAt: lib.func("sendto", "intptr_t", ["int", "intptr_t", "size_t", "int", "intptr_t", "uint32_t"]),
  socketpair: lib.func("int socketpair(int domain, int type, int protocol, _Out_ void *fds)"),
  sendmsgAt: lib.func("sendmsg", "intptr_t", ["int", "intptr_t", "int"]),
  recvmsgAt: lib.func("recvmsg", "intptr_t", ["int", "intptr_t", "int"]),
  recvmmsgAt: lib.func("recvmmsg", "int", ["int", "intptr_t", "uint32_t", "int", "intptr_t"]),
  recvAt: lib.func("recv", "intptr_t", ["int", "intptr_t", "size_t", "int"]),
  clockGettimeAt: lib.func("clock_gettime", "int", ["int", "intptr_t"]),
  readAt: lib.func("read", "intptr_t", ["int", "intptr_t", "size_t"]),
  writeAt: lib.func("write", "intptr_t", ["int", "intptr_t", "size_t"]),
  memcpyAt: lib.func("memcpy", "intptr_t", ["intptr_t", "intptr_t", "size_t"]),
  ppollAt: lib.func("ppoll", "int", ["intptr_t", "unsigned long", "intptr_t", "intptr_t"]),
} as const;
