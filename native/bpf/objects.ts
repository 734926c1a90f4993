/** Maps, programs and links of the kernel: bpf(2). Whoever makes one owns its descriptor. */
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

/** Sets the value of a key. Throws SyscallError E2BIG when the map is full. */
export function updateElement(map: Fd, key: Uint8Array, value: Uint8Array): void {
  withElement(map, key, value, (attributes) => {
    check(bpf(abi.BPF_MAP_UPDATE_ELEM, attributes), "bpf", { command: "BPF_MAP_UPDATE_ELEM" });
  });
}

/** Removes a key. Throws SyscallError ENOENT when it is not there. */
export function deleteElement(map: Fd, key: Uint8Array): void {
  withElement(map, key, undefined, (attributes) => {
    check(bpf(abi.BPF_MAP_DELETE_ELEM, attributes), "bpf", { command: "BPF_MAP_DELETE_ELEM" });
  });
}

function withElement(
  map: Fd,
  key: Uint8Array,
  value: Uint8Array | undefined,
  call: (attributes: Memory) => void,
): void {
  const keyAt = abi.BPF_ATTR_SIZE;
  const valueAt = keyAt + key.length;
  const attributes = Memory.anonymous(valueAt + (value?.length ?? 0));
  try {
    const { address, bytes, view } = attributes;
    bytes.set(key, keyAt);
    view.setUint32(abi.bpf_attr_elem.map_fd, map.number, true);
    view.setBigUint64(abi.bpf_attr_elem.key, BigInt(address + keyAt), true);
    if (value !== undefined) {
      bytes.set(value, valueAt);
      view.setBigUint64(abi.bpf_attr_elem.value, BigInt(address + valueAt), true); // deleting refuses any
    }
    call(attributes);
  } finally {
    attributes.close();
  }
}

/** What a program is for: its type, and where types can be attached to several places, the place. */
export interface ProgramKind {
  readonly type: number;
  readonly attachType: number;
}

export const SOCKET_FILTER: ProgramKind = { type: abi.BPF_PROG_TYPE_SOCKET_FILTER, attachType: 0 };
/** Needs CAP_NET_ADMIN besides CAP_BPF. */
export const SK_LOOKUP: ProgramKind = { type: abi.BPF_PROG_TYPE_SK_LOOKUP, attachType: abi.BPF_SK_LOOKUP };

/**
 * Loads a program; the maps it uses live as long as it does. Throws SyscallError EPERM without the capability, EACCES
 * or EINVAL for one that the verifier refuses, whose words are in `args.log`, EINVAL for a kind this kernel lacks.
 */
export function loadProgram(name: string, { type, attachType }: ProgramKind, instructions: Uint8Array): Fd {
  const count = instructions.length / abi.BPF_INSN_SIZE;
  const licenseAt = abi.BPF_ATTR_SIZE;
  const instructionsAt = licenseAt + 8;
  const logAt = instructionsAt + instructions.length;
  const memory = Memory.anonymous(logAt + LOG_SIZE);
  try {
    const { address, bytes, view } = memory;
    bytes.set(Buffer.from(LICENSE), licenseAt);
    bytes.set(instructions, instructionsAt);
    view.setUint32(abi.bpf_attr_prog.prog_type, type, true);
    view.setUint32(abi.bpf_attr_prog.expected_attach_type, attachType, true);
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

/**
 * Attaches a program of SK_LOOKUP to the network namespace that a descriptor means. It is detached when the last
 * descriptor of the link is closed. Throws SyscallError EPERM without CAP_NET_ADMIN there, E2BIG beyond 64 programs.
 */
export function attachLookup(program: Fd, namespace: Fd): Fd {
  const attributes = Memory.anonymous(abi.BPF_ATTR_SIZE);
  try {
    attributes.view.setUint32(abi.bpf_attr_link.prog_fd, program.number, true);
    attributes.view.setUint32(abi.bpf_attr_link.target_fd, namespace.number, true);
    attributes.view.setUint32(abi.bpf_attr_link.attach_type, abi.BPF_SK_LOOKUP, true);
    return new Fd(check(bpf(abi.BPF_LINK_CREATE, attributes), "bpf", { command: "BPF_LINK_CREATE" }));
  } finally {
    attributes.close();
  }
}

function bpf(command: number, attributes: Memory): number {
  return libc.syscall6(abi.SYS_bpf, command, attributes.address, abi.BPF_ATTR_SIZE, 0, 0, 0);
}

function writeName(to: Memory, at: number, name: string): void {
  if (name.length >= abi.BPF_OBJ_NAME_LEN) throw new RangeError(`bpf: the name ${name} is too long`);
  to.bytes.set(Buffer.from(name), at);
}
