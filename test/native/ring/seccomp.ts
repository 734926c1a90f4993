import { SYS_io_uring_setup } from "../../../native/abi/io_uring.ts";
import { check } from "../../../native/errno.ts";
import { libc } from "../../../native/libc.ts";
import { Memory } from "../../../native/memory.ts";

// From include/uapi/linux/prctl.h, seccomp.h and bpf_common.h.
const PR_SET_SECCOMP = 22;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_MODE_FILTER = 2;
const SECCOMP_RET_ERRNO = 0x00050000;
const SECCOMP_RET_ALLOW = 0x7fff0000;
const BPF_LD_W_ABS = 0x20;
const BPF_JEQ_K = 0x15;
const BPF_RET_K = 0x06;

/**
 * From now on io_uring_setup() fails with `errno` on this thread and in what it starts. Filters set by prctl()
 * bind only the calling thread and end with it.
 */
export function refuseIoUring(errno: number): void {
  const program = Memory.anonymous(64);
  const instruction = (at: number, code: number, onFalse: number, k: number) => {
    program.view.setUint16(at, code, true);
    program.view.setUint8(at + 3, onFalse);
    program.view.setUint32(at + 4, k, true);
  };
  instruction(0, BPF_LD_W_ABS, 0, 0); // seccomp_data.nr
  instruction(8, BPF_JEQ_K, 1, SYS_io_uring_setup);
  instruction(16, BPF_RET_K, 0, SECCOMP_RET_ERRNO | errno);
  instruction(24, BPF_RET_K, 0, SECCOMP_RET_ALLOW);
  program.view.setUint16(32, 4, true); // struct sock_fprog
  program.view.setBigUint64(40, BigInt(program.address), true);
  check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl", {});
  check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program.address + 32, 0, 0), "prctl", {});
}
