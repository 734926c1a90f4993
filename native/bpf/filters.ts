/**
 * Classic BPF programs for SO_ATTACH_FILTER (Documentation/networking/filter.rst).
 * A program is a list of instructions; attachFilter() hands it to the kernel.
 */
import { SO_ATTACH_FILTER, SOL_SOCKET } from "../abi/socket.ts";
import { check } from "../errno.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { ACK, RST, SYN } from "../wire/tcp.ts";

// From include/uapi/linux/bpf_common.h: operation codes, combined as the comments read.
const BPF_LDX_B_MSH = 0xb1; // ldx 4*([k]&0xf)
const BPF_LD_B_ABS = 0x30; // ldb [k]
const BPF_LD_B_IND = 0x50; // ldb [x+k]
const BPF_JMP_JSET_K = 0x45;
const BPF_JMP_JEQ_K = 0x15;
const BPF_ALU_AND_K = 0x54;
const BPF_RET_K = 0x06;

/** struct sock_filter: code u16, jt u8, jf u8, k u32. */
export type BpfInstruction = readonly [code: number, jt: number, jf: number, k: number];

const TCP_FLAGS_OFFSET = 13;
const PASS = 0xffffffff;
const DROP = 0;

/**
 * On a reservation (a listening TCP socket; data starts at the TCP header): SYN, SYN-ACK and RST are
 * dropped in silence, so the kernel never answers for a half-open connection it does not know. Anything
 * else (a stray of a finished connection) passes, and the listener answers it with the RST it deserves.
 */
export const reservationFilter: readonly BpfInstruction[] = [
  [BPF_LD_B_ABS, 0, 0, TCP_FLAGS_OFFSET],
  [BPF_JMP_JSET_K, 0, 1, SYN | RST],
  [BPF_RET_K, 0, 0, DROP],
  [BPF_RET_K, 0, 0, PASS],
];

/** On the handshake socket of a family: passes SYN-ACK and RST only. */
export function handshakeFilter(family: 4 | 6): readonly BpfInstruction[] {
  // A raw IPv4 socket sees the IP header, a raw IPv6 socket starts at the transport header.
  const loadFlags: readonly BpfInstruction[] =
    family === 4
      ? [
          [BPF_LDX_B_MSH, 0, 0, 0],
          [BPF_LD_B_IND, 0, 0, TCP_FLAGS_OFFSET],
        ]
      : [[BPF_LD_B_ABS, 0, 0, TCP_FLAGS_OFFSET]];
  return [
    ...loadFlags,
    [BPF_JMP_JSET_K, 2, 0, RST],
    [BPF_ALU_AND_K, 0, 0, SYN | ACK],
    [BPF_JMP_JEQ_K, 0, 1, SYN | ACK],
    [BPF_RET_K, 0, 0, PASS],
    [BPF_RET_K, 0, 0, DROP],
  ];
}

const SOCK_FILTER_SIZE = 8;
const PROGRAMS_MAX = 4096;
const memory = Memory.anonymous(PROGRAMS_MAX);

/**
 * Attaches a program to a socket. The kernel copies it.
 * Throws SyscallError: EINVAL for a program the verifier refuses, ENOMEM above net.core.optmem_max.
 */
export function attachFilter(fd: number, program: readonly BpfInstruction[]): void {
  // struct sock_fprog: len u16, 6 bytes of padding, pointer to the instructions.
  const instructions = 16;
  program.forEach(([code, jt, jf, k], index) => {
    const at = instructions + index * SOCK_FILTER_SIZE;
    memory.view.setUint16(at, code, true);
    memory.view.setUint8(at + 2, jt);
    memory.view.setUint8(at + 3, jf);
    memory.view.setUint32(at + 4, k, true);
  });
  memory.view.setUint16(0, program.length, true);
  memory.view.setBigUint64(8, BigInt(memory.address + instructions), true);
  const result = libc.setsockoptAt(fd, SOL_SOCKET, SO_ATTACH_FILTER, memory.address, 16);
  check(result, "setsockopt", { fd, option: "SO_ATTACH_FILTER", length: program.length });
}
