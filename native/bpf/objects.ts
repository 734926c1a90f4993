/** Maps and programs of the kernel: bpf(2). Whoever makes one owns its descriptor. */
import * as abi from "../abi/bpf.ts";
import { SO_ATTACH_BPF, SOL_SOCKET } from "../abi/socket.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";

const LOG_SIZE = 64 * 1024;
const option = Memory.anonymous(4096);
/** Decides which helpers a program may call; all of ours may be called under any. */
const LICENSE = "MIT";

export interface MapSpec {
  /** Up to 15 letters, digits and underscores; bpftool shows it. */
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly entries: number;
  readonly flags: number;
}

/**
 * Makes a map. Throws SyscallError EPERM without CAP_BPF (or CAP_SYS_ADMIN) in the first user namespace, EINVAL
 * for a type this kernel does not know, ENOSYS without bpf(2), ENOMEM.
 */
export function createMap(spec: MapSpec): Fd {
  const attributes = Memory.anonymous(abi.BPF_ATTR_SIZE);
  try {
    const { view } = attributes;
    view.setUint32(abi.bpf_attr_map.map_type, spec.type, true);
    view.setUint32(abi.bpf_attr_map.key_size, spec.keySize, true);
    view.setUint32(abi.bpf_attr_map.value_size, spec.valueSize, true);
    view.setUint32(abi.bpf_attr_map.max_entries, spec.entries, true);
    view.setUint32(abi.bpf_attr_map.map_flags, spec.flags, true);
    writeName(attributes, abi.bpf_attr_map.map_name, spec.name);
    const fd = bpf(abi.BPF_MAP_CREATE, attributes);
    if (fd < 0) throw new SyscallError("bpf", lastErrno(), { command: "BPF_MAP_CREATE", ...spec });
    return new Fd(fd);
  } finally {
    attributes.close();
  }
}

/**
 * Loads a program of BPF_PROG_TYPE_SOCKET_FILTER; the maps it uses live as long as it does. Throws SyscallError
 * EPERM without CAP_BPF, EACCES or EINVAL for one that the verifier refuses, whose words are in `args.log`.
 */
export function loadSocketFilter(name: string, instructions: Uint8Array): Fd {
  const count = instructions.length / abi.BPF_INSN_SIZE;
  const licenseAt = abi.BPF_ATTR_SIZE;
  const instructionsAt = licenseAt + 8;
  const logAt = instructionsAt + instructions.length;
  const memory = Memory.anonymous(logAt + LOG_SIZE);
  try {
    const { address, bytes, view } = memory;
    bytes.set(Buffer.from(LICENSE), licenseAt);
    bytes.set(instructions, instructionsAt);
    view.setUint32(abi.bpf_attr_prog.prog_type, abi.BPF_PROG_TYPE_SOCKET_FILTER, true);
    view.setUint32(abi.bpf_attr_prog.insn_cnt, count, true);
    view.setBigUint64(abi.bpf_attr_prog.insns, BigInt(address + instructionsAt), true);
    view.setBigUint64(abi.bpf_attr_prog.license, BigInt(address + licenseAt), true);
    writeName(memory, abi.bpf_attr_prog.prog_name, name);
    const fd = bpf(abi.BPF_PROG_LOAD, memory);
    if (fd >= 0) return new Fd(fd);
    const errno = lastErrno();
    // Once more, for the verifier's words: it takes longer with them.
    view.setUint32(abi.bpf_attr_prog.log_level, 1, true);
    view.setUint32(abi.bpf_attr_prog.log_size, LOG_SIZE, true);
    view.setBigUint64(abi.bpf_attr_prog.log_buf, BigInt(address + logAt), true);
    const again = bpf(abi.BPF_PROG_LOAD, memory);
    if (again >= 0) return new Fd(again);
    const log = Buffer.from(bytes.subarray(logAt, bytes.indexOf(0, logAt))).toString("latin1");
    throw new SyscallError("bpf", errno, { command: "BPF_PROG_LOAD", name, count, log });
  } finally {
    memory.close();
  }
}

/**
 * Makes a program the filter of a socket, which keeps it. Needs no capability. Throws SyscallError: EINVAL for one
 * that is no socket filter, EPERM when the socket's filter is locked (SO_LOCK_FILTER).
 */
export function attachProgram(fd: number, program: Fd): void {
  option.view.setInt32(0, program.number, true);
  const result = libc.setsockoptAt(fd, SOL_SOCKET, SO_ATTACH_BPF, option.address, 4);
  check(result, "setsockopt", { fd, option: "SO_ATTACH_BPF" });
}

function bpf(command: number, attributes: Memory): number {
  return libc.syscall6(abi.SYS_bpf, command, attributes.address, abi.BPF_ATTR_SIZE, 0, 0, 0);
}

function writeName(to: Memory, at: number, name: string): void {
  if (name.length >= abi.BPF_OBJ_NAME_LEN) throw new RangeError(`bpf: the name ${name} is too long`);
  to.bytes.set(Buffer.from(name), at);
}
