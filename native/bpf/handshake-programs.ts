/**
 * The eBPF socket filters that hear a handshake where it ends: on a reservation or on the socket made of a
 * half-open. What they hear goes into a ring buffer; bulk data costs one look at the flags.
 *
 * Read net/core/filter.c sk_filter_trim_cap() first: on a TCP socket a filter sees packets from the TCP header on,
 * before TCP does, so that a RST is in the ring before the socket shows its error.
 */
import * as abi from "../abi/bpf.ts";
import { IPV6_HEADER_SIZE } from "../wire/ipv6.ts";
import { ACK, RST, SYN, TCP_HEADER_SIZE } from "../wire/tcp.ts";
import {
  alu,
  assemble,
  atomicAdd,
  call,
  copy,
  exit,
  jump,
  jumpIf,
  type Line,
  loadByte,
  map,
  mapValue,
  mov,
  store,
} from "./assembler.ts";

/**
 * A record: the time of CLOCK_MONOTONIC in ns, u64; what the network header begins with, enough for a whole IPv6
 * header and for one of IPv4 without options; the TCP header with its options, of up to 60 bytes.
 */
export const HEARD = { ktime: 0, network: 8, tcp: 8 + IPV6_HEADER_SIZE, size: 112 } as const;

const DOFF_OFFSET = 12;
const FLAGS_OFFSET = 13;
const DROP = 0;
const PASS = -1;

/** Descriptors of the maps a program writes to. */
export interface HearingMaps {
  /** A ring buffer, for HEARD records. */
  readonly ring: number;
  /** An array map whose first value, u64, counts what found no room in the ring. */
  readonly lost: number;
}

/**
 * On a reservation: as reservationFilter (filters.ts), SYN-ACK and RST are dropped, but heard first; SYN is
 * dropped, anything else passes.
 */
export function guardProgram(maps: HearingMaps): Uint8Array {
  return assemble([
    copy(6, 1),
    loadByte(FLAGS_OFFSET),
    jumpIf(abi.BPF_JSET, 0, RST, "hear"),
    alu(abi.BPF_AND, 0, SYN | ACK),
    jumpIf(abi.BPF_JEQ, 0, SYN | ACK, "hear"),
    jumpIf(abi.BPF_JSET, 0, SYN, "end"),
    mov(0, PASS),
    exit,
    ...hear(maps, DROP),
  ]);
}

/** On the socket made of a half-open: a RST is heard; everything passes. */
export function witnessProgram(maps: HearingMaps): Uint8Array {
  return assemble([
    copy(6, 1),
    loadByte(FLAGS_OFFSET),
    jumpIf(abi.BPF_JSET, 0, RST, "hear"),
    mov(0, PASS),
    exit,
    ...hear(maps, PASS),
  ]);
}

/** From "hear" on: writes the record, then ends with `verdict`, as a jump to "end" does. r6 is the packet. */
function hear({ ring, lost }: HearingMaps, verdict: number): readonly Line[] {
  return [
    "hear",
    loadByte(DOFF_OFFSET),
    copy(7, 0), // the header's length: its upper four bits are words
    alu(abi.BPF_AND, 7, 0xf0),
    alu(abi.BPF_RSH, 7, 2),
    jumpIf(abi.BPF_JLT, 7, TCP_HEADER_SIZE, "end"),
    map(1, ring),
    mov(2, HEARD.size),
    mov(3, 0),
    call(abi.BPF_FUNC_ringbuf_reserve),
    copy(8, 0),
    jumpIf(abi.BPF_JEQ, 8, 0, "lost"),
    call(abi.BPF_FUNC_ktime_get_ns),
    store(8, HEARD.ktime, 0),
    // Should a helper fail, it leaves zeros, which no decoder takes for a packet.
    copy(1, 6),
    mov(2, 0),
    copy(3, 8),
    alu(abi.BPF_ADD, 3, HEARD.network),
    mov(4, IPV6_HEADER_SIZE),
    mov(5, abi.BPF_HDR_START_NET),
    call(abi.BPF_FUNC_skb_load_bytes_relative),
    copy(1, 6),
    mov(2, 0),
    copy(3, 8),
    alu(abi.BPF_ADD, 3, HEARD.tcp),
    copy(4, 7),
    call(abi.BPF_FUNC_skb_load_bytes),
    copy(1, 8),
    mov(2, 0), // wakes the reader if it had read everything
    call(abi.BPF_FUNC_ringbuf_submit),
    jump("end"),
    "lost",
    mapValue(1, lost),
    mov(2, 1),
    atomicAdd(1, 2),
    "end",
    mov(0, verdict),
    exit,
  ];
}
