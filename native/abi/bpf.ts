// From arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h, which the other 64-bit
// architectures of Node share.
export const SYS_bpf = process.arch === "x64" ? 321 : 280;

// From include/uapi/linux/bpf.h and bpf_common.h: operation codes, class | size or source | mode or operation.
export const BPF_LD = 0x00;
export const BPF_LDX = 0x01;
export const BPF_STX = 0x03;
export const BPF_JMP = 0x05;
export const BPF_ALU64 = 0x07;

export const BPF_W = 0x00;
export const BPF_B = 0x10;
export const BPF_DW = 0x18;

export const BPF_IMM = 0x00;
export const BPF_ABS = 0x20;
export const BPF_MEM = 0x60;
export const BPF_ATOMIC = 0xc0;

export const BPF_K = 0x00;
export const BPF_X = 0x08;

export const BPF_ADD = 0x00;
export const BPF_AND = 0x50;
export const BPF_RSH = 0x70;
export const BPF_MOV = 0xb0;

export const BPF_JA = 0x00;
export const BPF_JEQ = 0x10;
export const BPF_JGT = 0x20;
export const BPF_JSET = 0x40;
export const BPF_CALL = 0x80;
export const BPF_EXIT = 0x90;
export const BPF_JLT = 0xa0;

/** struct bpf_insn: code u8, dst_reg and src_reg of 4 bits, off s16, imm s32. */
export const BPF_INSN_SIZE = 8;

// Values of src_reg in a load of 64 bits: what imm means.
export const BPF_PSEUDO_MAP_FD = 1;
export const BPF_PSEUDO_MAP_VALUE = 2;

// enum bpf_func_id.
export const BPF_FUNC_map_lookup_elem = 1;
export const BPF_FUNC_ktime_get_ns = 5;
export const BPF_FUNC_skb_load_bytes = 26;
export const BPF_FUNC_skb_load_bytes_relative = 68;
export const BPF_FUNC_sk_release = 86;
export const BPF_FUNC_sk_assign = 124;
export const BPF_FUNC_ringbuf_reserve = 131;
export const BPF_FUNC_ringbuf_submit = 132;

// enum bpf_hdr_start_off.
export const BPF_HDR_START_NET = 1;

// enum bpf_cmd.
export const BPF_MAP_CREATE = 0;
export const BPF_MAP_UPDATE_ELEM = 2;
export const BPF_MAP_DELETE_ELEM = 3;
export const BPF_PROG_LOAD = 5;
export const BPF_LINK_CREATE = 28;

// enum bpf_map_type, and flags of BPF_MAP_CREATE.
export const BPF_MAP_TYPE_HASH = 1;
export const BPF_MAP_TYPE_ARRAY = 2;
export const BPF_MAP_TYPE_SOCKMAP = 15;
export const BPF_MAP_TYPE_RINGBUF = 27;
export const BPF_F_NO_PREALLOC = 1 << 0;
export const BPF_F_MMAPABLE = 1 << 10;

// enum bpf_prog_type.
export const BPF_PROG_TYPE_SOCKET_FILTER = 1;
export const BPF_PROG_TYPE_SK_LOOKUP = 30;

// enum bpf_attach_type.
export const BPF_SK_LOOKUP = 36;

// enum sk_action: what such a program ends with.
export const SK_PASS = 1;

// struct bpf_sk_lookup: what such a program reads; local_port alone is in host order.
export const bpf_sk_lookup = {
  remote_ip4: 16,
  remote_ip6: 20,
  remote_port: 36,
  local_port: 60,
} as const;

// union bpf_attr of BPF_MAP_CREATE: map_type, key_size, value_size, max_entries, map_flags, then fields that are
// zero here. The kernel takes a shorter union than its own for one that ends in zeros.
export const bpf_attr_map = {
  map_type: 0,
  key_size: 4,
  value_size: 8,
  max_entries: 12,
  map_flags: 16,
  map_name: 28,
} as const;
// The same of BPF_PROG_LOAD: insns, license and log_buf are 64-bit addresses.
export const bpf_attr_prog = {
  prog_type: 0,
  insn_cnt: 4,
  insns: 8,
  license: 16,
  log_level: 24,
  log_size: 28,
  log_buf: 32,
  prog_name: 48,
  expected_attach_type: 68,
} as const;
// The same of BPF_MAP_UPDATE_ELEM and BPF_MAP_DELETE_ELEM: key and value are 64-bit addresses.
export const bpf_attr_elem = { map_fd: 0, key: 8, value: 16 } as const;
// The same of BPF_LINK_CREATE.
export const bpf_attr_link = { prog_fd: 0, target_fd: 4, attach_type: 8 } as const;
export const BPF_ATTR_SIZE = 80;
export const BPF_OBJ_NAME_LEN = 16;

// A ring buffer (Documentation/bpf/ringbuf.rst): a page that begins with the consumer's position, one with the
// producer's, both unsigned long, then the data, mapped twice in a row. A record: length u32 with two flag bits,
// page offset u32, then its bytes, padded to 8.
export const BPF_RINGBUF_BUSY_BIT = 2 ** 31;
export const BPF_RINGBUF_DISCARD_BIT = 2 ** 30;
export const BPF_RINGBUF_HDR_SZ = 8;
