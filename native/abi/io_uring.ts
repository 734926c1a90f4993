// From include/uapi/linux/io_uring.h, and the syscall numbers x86-64 and arm64 share (asm-generic/unistd.h).
export const SYS_io_uring_setup = 425;
export const SYS_io_uring_enter = 426;
export const SYS_io_uring_register = 427;

// io_uring_setup(): flags.
export const IORING_SETUP_CQSIZE = 1 << 3; // Linux 5.5
export const IORING_SETUP_SUBMIT_ALL = 1 << 7; // 5.18
export const IORING_SETUP_COOP_TASKRUN = 1 << 8; // 5.19
export const IORING_SETUP_SINGLE_ISSUER = 1 << 12; // 6.0
export const IORING_SETUP_DEFER_TASKRUN = 1 << 13; // 6.1, needs SINGLE_ISSUER
export const IORING_SETUP_NO_SQARRAY = 1 << 16; // 6.6

// io_uring_params.features.
export const IORING_FEAT_SINGLE_MMAP = 1 << 0; // Linux 5.4
export const IORING_FEAT_NODROP = 1 << 1; // 5.5
export const IORING_FEAT_SUBMIT_STABLE = 1 << 2; // 5.5
export const IORING_FEAT_FAST_POLL = 1 << 5; // 5.7
export const IORING_FEAT_EXT_ARG = 1 << 8; // 5.11
export const IORING_FEAT_CQE_SKIP = 1 << 11; // 5.17

// mmap() offsets.
export const IORING_OFF_SQ_RING = 0;
export const IORING_OFF_SQES = 0x10000000;

// io_uring_enter(): flags.
export const IORING_ENTER_GETEVENTS = 1 << 0;
export const IORING_ENTER_EXT_ARG = 1 << 3;

// io_uring_register(): opcodes.
export const IORING_REGISTER_PROBE = 8;
export const IORING_REGISTER_PBUF_RING = 22; // Linux 5.19
export const IO_URING_OP_SUPPORTED = 1 << 0;

// enum io_uring_op. Only what the driver queues.
export const IORING_OP_POLL_ADD = 6;
export const IORING_OP_ACCEPT = 13;
export const IORING_OP_ASYNC_CANCEL = 14;
export const IORING_OP_CONNECT = 16;
export const IORING_OP_CLOSE = 19;
export const IORING_OP_SEND = 26;
export const IORING_OP_RECV = 27;
export const IORING_OP_URING_CMD = 46; // Linux 5.19
export const IORING_OP_BIND = 56; // 6.11

// enum io_uring_socket_op: cmd_op of URING_CMD on a socket.
export const SOCKET_URING_OP_SETSOCKOPT = 3; // Linux 6.7

// io_uring_sqe.flags.
export const IOSQE_IO_LINK = 1 << 2;
export const IOSQE_BUFFER_SELECT = 1 << 5;
export const IOSQE_CQE_SKIP_SUCCESS = 1 << 6;

// io_uring_sqe.ioprio of RECV and ACCEPT, cancel_flags of ASYNC_CANCEL.
export const IORING_RECVSEND_POLL_FIRST = 1 << 0; // Linux 5.19
export const IORING_ACCEPT_MULTISHOT = 1 << 0; // 5.19
export const IORING_ASYNC_CANCEL_ALL = 1 << 0; // 5.19
export const IORING_ASYNC_CANCEL_ANY = 1 << 2; // 5.19

// io_uring_cqe.flags. The buffer id is in the upper 16 bits.
export const IORING_CQE_F_BUFFER = 1 << 0;
export const IORING_CQE_F_MORE = 1 << 1;
export const IORING_CQE_F_SOCK_NONEMPTY = 1 << 2; // 5.19
export const IORING_CQE_BUFFER_SHIFT = 16;

// Limits the kernel enforces: IORING_MAX_ENTRIES, IORING_MAX_CQ_ENTRIES, entries of a provided-buffer ring.
export const IORING_MAX_ENTRIES = 32768;
export const IORING_MAX_CQ_ENTRIES = 65536;
export const IORING_MAX_PBUF_ENTRIES = 32768;

// struct io_uring_params: 120 bytes, byte offsets. The kernel fills features and everything after it.
export const IO_URING_PARAMS_SIZE = 120;
export const io_uring_params = {
  sq_entries: 0,
  cq_entries: 4,
  flags: 8,
  features: 20,
  sq_off: 40,
  cq_off: 80,
} as const;

// struct io_sqring_offsets and io_cqring_offsets: 40 bytes each, byte offsets inside io_uring_params.
export const io_sqring_offsets = { head: 0, tail: 4, ring_mask: 8, ring_entries: 12, array: 24 } as const;
export const io_cqring_offsets = { head: 0, tail: 4, ring_mask: 8, ring_entries: 12, cqes: 20 } as const;

// struct io_uring_sqe: 64 bytes. Indices of 32-bit words, as the ring is written through an Int32Array;
// a word of several fields holds them from the low bits up, a 64-bit field takes two words, low one first.
export const IO_URING_SQE_SIZE = 64;
export const SQE_WORDS = 16;
export const io_uring_sqe = {
  opcode: 0, // u8 opcode, u8 flags, u16 ioprio
  fd: 1,
  off: 2, // u64 off or addr2
  cmd_op: 2, // u32, URING_CMD
  addr: 4, // u64
  level: 4, // u32, SETSOCKOPT
  optname: 5, // u32
  len: 6,
  op_flags: 7, // msg_flags, accept_flags, poll32_events, cancel_flags
  user_data: 8, // u64
  buf_group: 10, // u16 buf_group, u16 personality
  optlen: 11, // u32, SETSOCKOPT
  optval: 12, // u64
} as const;
export const SQE_FLAGS_SHIFT = 8;
export const SQE_IOPRIO_SHIFT = 16;

// struct io_uring_cqe: 16 bytes, indices of 32-bit words.
export const IO_URING_CQE_SIZE = 16;
export const CQE_WORDS = 4;
export const io_uring_cqe = { user_data: 0, res: 2, flags: 3 } as const;

// struct io_uring_buf: 16 bytes. Entry 0 of the ring lends its last two bytes to the ring's tail.
export const IO_URING_BUF_SIZE = 16;
export const io_uring_buf = { addr: 0, len: 8, bid: 12 } as const;
export const IO_URING_BUF_RING_TAIL = 14;

// struct io_uring_buf_reg: 40 bytes, byte offsets.
export const IO_URING_BUF_REG_SIZE = 40;
export const io_uring_buf_reg = { ring_addr: 0, ring_entries: 8, bgid: 12 } as const;

// struct io_uring_getevents_arg: 24 bytes; struct __kernel_timespec: 16 bytes, two 64-bit numbers.
export const IO_URING_GETEVENTS_ARG_SIZE = 24;
export const io_uring_getevents_arg = { sigmask: 0, sigmask_sz: 8, ts: 16 } as const;
export const __KERNEL_TIMESPEC_SIZE = 16;

// struct io_uring_probe: 16 bytes and one io_uring_probe_op of 8 bytes per operation, byte offsets.
export const IO_URING_PROBE_SIZE = 16;
export const io_uring_probe = { last_op: 0, ops_len: 1 } as const;
export const IO_URING_PROBE_OP_SIZE = 8;
export const io_uring_probe_op = { op: 0, flags: 2 } as const;
