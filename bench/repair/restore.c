// The lower bound of the repair benchmark: the system calls of native/repair/plan.ts for a connection with window
// scaling, SACK and timestamps, made by C. Reads lines "COUNT FIRST_PORT", restores that many connections from
// 127.0.0.1:FIRST_PORT… to 127.0.0.1:REMOTE_PORT, dumps and closes them silently, and answers with the CPU time of this
// thread that restoring, dumping all, and dumping what differs between like connections took, in ns for the whole
// batch. Exit 1 with a message when a call fails.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { REMOTE_PORT = 9, COUNT_MAX = 1024, MSS = 65495, WINDOW = 65483 };

static void fail(const char *what) {
  fprintf(stderr, "restore: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void set_int(int fd, int level, int name, int value) {
  if (setsockopt(fd, level, name, &value, sizeof value) < 0) fail("setsockopt");
}

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static int restore(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  set_int(fd, IPPROTO_TCP, TCP_REPAIR, 1);
  set_int(fd, IPPROTO_TCP, TCP_MAXSEG, 32767);
  set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  struct sockaddr_in local = loopback(port), remote = loopback(REMOTE_PORT);
  if (bind(fd, (struct sockaddr *)&local, sizeof local) < 0) fail("bind");
  set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
  set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, 2000000001);
  set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
  set_int(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, 1000000001);
  if (connect(fd, (struct sockaddr *)&remote, sizeof remote) < 0) fail("connect");
  struct tcp_repair_opt options[] = {
      {2, MSS}, {3, 7 | 7 << 16}, {4, 0}, {8, 0}}; // MSS, window scale, SACK permitted, timestamps
  if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, sizeof options) < 0) fail("TCP_REPAIR_OPTIONS");
  if (setsockopt(fd, IPPROTO_IP, IP_OPTIONS, NULL, 0) < 0) fail("IP_OPTIONS");
  set_int(fd, IPPROTO_TCP, TCP_TIMESTAMP, 1000000);
  struct tcp_repair_window window = {2000000000, WINDOW, WINDOW, WINDOW, 2000000001};
  if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window) < 0) fail("TCP_REPAIR_WINDOW");
  set_int(fd, IPPROTO_TCP, TCP_REPAIR, -1);
  return fd;
}

static void close_silently(int fd) {
  struct tcp_info info;
  socklen_t length = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) fail("TCP_INFO");
  if (info.tcpi_state != 1) { // TCP_ESTABLISHED
    fprintf(stderr, "restore: a socket is in state %d\n", info.tcpi_state);
    exit(1);
  }
  set_int(fd, IPPROTO_TCP, TCP_REPAIR, 1);
  close(fd);
}

static void get(int fd, int level, int name, socklen_t length) {
  char value[256];
  if (getsockopt(fd, level, name, value, &length) < 0) fail("getsockopt");
}

// The options that native/repair/dump.ts reads of an IPv4 connection.
static const struct {
  int level, name, length, differs;
} OPTIONS[] = {
    {SOL_SOCKET, SO_BINDTODEVICE, 64, 0}, {IPPROTO_IP, IP_TRANSPARENT, 4, 1}, {IPPROTO_IP, IP_FREEBIND, 4, 1},
    {SOL_SOCKET, SO_MARK, 4, 1}, {SOL_SOCKET, SO_DONTROUTE, 4, 0}, {IPPROTO_IP, IP_TOS, 4, 1},
    {IPPROTO_IP, IP_TTL, 4, 0}, {IPPROTO_IP, IP_MTU_DISCOVER, 4, 0}, {SOL_SOCKET, SO_PRIORITY, 4, 0},
    {SOL_SOCKET, SO_KEEPALIVE, 4, 0}, {SOL_SOCKET, SO_OOBINLINE, 4, 0}, {SOL_SOCKET, SO_LINGER, 8, 0},
    {IPPROTO_TCP, TCP_CONGESTION, 64, 1}, {IPPROTO_TCP, TCP_NODELAY, 4, 0}, {IPPROTO_TCP, TCP_KEEPIDLE, 4, 0},
    {IPPROTO_TCP, TCP_KEEPINTVL, 4, 0}, {IPPROTO_TCP, TCP_KEEPCNT, 4, 0}, {IPPROTO_TCP, TCP_SYNCNT, 4, 0},
    {IPPROTO_TCP, TCP_LINGER2, 4, 0}, {IPPROTO_TCP, TCP_USER_TIMEOUT, 4, 0}, {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4, 0},
    {SOL_SOCKET, SO_RCVLOWAT, 4, 0}, {IPPROTO_TCP, TCP_CORK, 4, 0}, {SOL_SOCKET, SO_SNDBUF, 4, 1},
    {SOL_SOCKET, SO_RCVBUF, 4, 1}, {SOL_SOCKET, 72 /* SO_BUF_LOCK */, 4, 0}, {IPPROTO_TCP, TCP_WINDOW_CLAMP, 4, 1},
    {SOL_SOCKET, SO_REUSEPORT, 4, 0}, {IPPROTO_TCP, TCP_QUICKACK, 4, 1},
};

// What the image of an idle connection takes; `known` leaves out the options that like connections share.
static void dump(int fd, int known) {
  int queued;
  get(fd, IPPROTO_TCP, TCP_INFO, 148);
  get(fd, IPPROTO_TCP, TCP_MAXSEG, 4);
  set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE);
  get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, 4);
  set_int(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE);
  get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, 4);
  if (ioctl(fd, SIOCINQ, &queued) < 0) fail("SIOCINQ");
  get(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, sizeof(struct tcp_repair_window));
  for (unsigned i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++)
    if (!known || OPTIONS[i].differs) get(fd, OPTIONS[i].level, OPTIONS[i].name, OPTIONS[i].length);
  get(fd, IPPROTO_TCP, TCP_TIMESTAMP, 4);
}

static int64_t cpu_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(void) {
  static int fds[COUNT_MAX];
  int count, port;
  setvbuf(stdout, NULL, _IOLBF, 0);
  while (scanf("%d %d", &count, &port) == 2 && count <= COUNT_MAX) {
    int64_t before = cpu_ns();
    for (int i = 0; i < count; i++) fds[i] = restore(port + i);
    int64_t restored = cpu_ns();
    for (int i = 0; i < count; i++) set_int(fds[i], IPPROTO_TCP, TCP_REPAIR, 1);
    int64_t held = cpu_ns();
    for (int i = 0; i < count; i++) dump(fds[i], 0);
    int64_t dumped = cpu_ns();
    for (int i = 0; i < count; i++) dump(fds[i], 1);
    int64_t again = cpu_ns();
    for (int i = 0; i < count; i++) close_silently(fds[i]); // before the answer: the other side uses these ports too
    printf("%lld %lld %lld\n", (long long)(restored - before), (long long)(dumped - held), (long long)(again - dumped));
  }
  return 0;
}
