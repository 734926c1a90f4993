/**
 * The program that finds the socket of a packet which belongs to no connection: for a port of a span, from one of
 * several upstreams, it is the steered listener, whoever is bound there; everybody else's it leaves to the kernel.
 *
 * Read Documentation/bpf/prog_sk_lookup.rst and net/ipv4/inet_hashtables.c __inet_lookup_listener() first.
 */
import * as abi from "../abi/bpf.ts";
import { alu, assemble, call, copy, exit, jumpIf, loadWord, map, mov, storeWord } from "./assembler.ts";

/** Ports, both ends included. */
export interface PortSpan {
  readonly first: number;
  readonly last: number;
}

/** Descriptors of the maps a program reads. */
export interface SteeringMaps {
  /** A hash map: who is there (see upstreamKey()). */
  readonly upstreams: number;
  /** A socket map, whose first one is the listener. */
  readonly listeners: number;
}

// As the program reads it: IPv4 address, IPv6 address, port, each in network order; the other family's is zero.
const KEY = { ip4: 0, ip6: 4, port: 20, size: 24 } as const;
export const UPSTREAM_KEY_SIZE = KEY.size;

/** The key of an upstream in the hash map. */
export function upstreamKey(address: Uint8Array, port: number): Uint8Array {
  const key = new Uint8Array(KEY.size);
  key.set(address, address.length === 4 ? KEY.ip4 : KEY.ip6);
  key[KEY.port] = port >>> 8;
  key[KEY.port + 1] = port & 0xff;
  return key;
}

const FRAME = 10;
const LISTENER_KEY_AT = -4;
/** struct bpf_sk_lookup in the order of KEY. */
const KEY_WORDS = [
  abi.bpf_sk_lookup.remote_ip4,
  ...[0, 4, 8, 12].map((at) => abi.bpf_sk_lookup.remote_ip6 + at),
  abi.bpf_sk_lookup.remote_port,
];

/** Most packets end at the second jump: three instructions and a return. */
export function steeringProgram(
  { first, last }: PortSpan,
  { upstreams, listeners }: SteeringMaps,
): Uint8Array {
  return assemble([
    loadWord(2, 1, abi.bpf_sk_lookup.local_port),
    alu(abi.BPF_ADD, 2, -first),
    jumpIf(abi.BPF_JGT, 2, last - first, "pass"),
    copy(6, 1),
    KEY_WORDS.flatMap((from, index) => [loadWord(2, 6, from), storeWord(FRAME, 4 * index - KEY.size, 2)]),
    map(1, upstreams),
    copy(2, FRAME),
    alu(abi.BPF_ADD, 2, -KEY.size),
    call(abi.BPF_FUNC_map_lookup_elem),
    jumpIf(abi.BPF_JEQ, 0, 0, "pass"),
    mov(2, 0),
    storeWord(FRAME, LISTENER_KEY_AT, 2),
    map(1, listeners),
    copy(2, FRAME),
    alu(abi.BPF_ADD, 2, LISTENER_KEY_AT),
    call(abi.BPF_FUNC_map_lookup_elem),
    jumpIf(abi.BPF_JEQ, 0, 0, "pass"),
    copy(7, 0),
    copy(1, 6),
    copy(2, 7),
    mov(3, 0),
    call(abi.BPF_FUNC_sk_assign),
    copy(1, 7),
    call(abi.BPF_FUNC_sk_release),
    "pass",
    mov(0, abi.SK_PASS),
    exit,
  ]);
}
