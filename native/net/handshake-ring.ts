/**
 * Hears the SYN-ACKs and RSTs of our own sockets alone, without a copy of any other packet: eBPF filters on them
 * write what they hear into ring buffers (native/bpf/handshake-programs.ts). The raw socket of
 * handshake-receiver.ts does the same where BPF is not allowed.
 */
import { BPF_F_MMAPABLE, BPF_MAP_TYPE_ARRAY } from "../abi/bpf.ts";
import { guardProgram, HEARD, witnessProgram } from "../bpf/handshake-programs.ts";
import { createMap, loadProgram, SOCKET_FILTER } from "../bpf/objects.ts";
import { createRing, RingBuffer } from "../bpf/ring-buffer.ts";
import type { Fd } from "../fd.ts";
import { Memory } from "../memory.ts";
import { decodeTcp } from "../wire/tcp.ts";
import type { SegmentHandler } from "./handshake-receiver.ts";

/** Some 2,000 SYN-ACKs, and 500 RSTs for connections. */
const GUARD_RING_SIZE = 256 * 1024;
const WITNESS_RING_SIZE = 64 * 1024;
const PAGE_SIZE = 4096;

/** What a ring is made of: only making it needs CAP_BPF. */
export interface HandshakeObjects {
  readonly guarded: Fd;
  readonly witnessed: Fd;
  readonly lost: Fd;
  /** Program for reservations: drops SYN, SYN-ACK and RST, and hears the latter two. Attach with attachProgram(). */
  readonly guard: Fd;
  /** Program for sockets made of half-opens: hears RSTs, drops nothing. For SO_ATTACH_BPF, which needs no capability. */
  readonly witness: Fd;
}

/** Throws SyscallError EPERM without CAP_BPF in the first user namespace, others where the kernel lacks BPF. */
export function createHandshakeObjects(): HandshakeObjects {
  const made: Fd[] = [];
  const keep = (fd: Fd): Fd => {
    made.push(fd);
    return fd;
  };
  try {
    const guarded = keep(createRing("accel_guarded", GUARD_RING_SIZE));
    const witnessed = keep(createRing("accel_witness", WITNESS_RING_SIZE));
    const lost = keep(
      createMap({
        name: "accel_lost",
        type: BPF_MAP_TYPE_ARRAY,
        keySize: 4,
        valueSize: 8,
        entries: 1,
        flags: BPF_F_MMAPABLE,
      }),
    );
    const maps = { ring: guarded.number, lost: lost.number };
    const guard = keep(loadProgram("accel_guard", SOCKET_FILTER, guardProgram(maps)));
    const witnessMaps = { ...maps, ring: witnessed.number };
    const witness = keep(loadProgram("accel_witness", SOCKET_FILTER, witnessProgram(witnessMaps)));
    return { guarded, witnessed, lost, guard, witness };
  } catch (error) {
    for (const fd of made) fd.close();
    throw error;
  }
}

export class HandshakeRing {
  readonly guard: Fd;
  readonly witness: Fd;
  readonly #guarded: RingBuffer;
  readonly #witnessed: RingBuffer;
  readonly #lost: Memory;

  /** Of these objects, which are its own from now on; else throws as createHandshakeObjects(). */
  constructor(objects: HandshakeObjects = createHandshakeObjects()) {
    this.#guarded = new RingBuffer(objects.guarded, GUARD_RING_SIZE);
    this.#witnessed = new RingBuffer(objects.witnessed, WITNESS_RING_SIZE);
    this.#lost = Memory.shared(objects.lost.number, PAGE_SIZE, 0);
    this.guard = objects.guard;
    this.witness = objects.witness;
    objects.lost.close(); // the programs hold it
  }

  /** Readable when anything was heard on a reservation. */
  get guardFd(): Fd {
    return this.#guarded.fd;
  }

  /** Readable when a RST was heard for a connection. */
  get witnessFd(): Fd {
    return this.#witnessed.fd;
  }

  /** How many segments found no room, modulo 2^32. */
  get lost(): number {
    return this.#lost.view.getUint32(0, true);
  }

  /**
   * Hands every segment that waits to `handle`: first what reservations heard, then what connections did, each
   * oldest first. Returns how many.
   */
  drain(handle: SegmentHandler): number {
    return this.#drain(this.#guarded, handle) + this.#drain(this.#witnessed, handle);
  }

  /** Sockets keep the programs they have, which then write to nobody. */
  close(): void {
    this.guard.close();
    this.witness.close();
    this.#guarded.close();
    this.#witnessed.close();
    this.#lost.close();
  }

  #drain(ring: RingBuffer, handle: SegmentHandler): number {
    const { bytes, view } = ring;
    return ring.drain((at) => {
      const segment = decodeTcp(bytes, at + HEARD.tcp, at + HEARD.size);
      const ip = at + HEARD.network;
      const version = bytes[ip]! >>> 4;
      if (segment === undefined || (version !== 4 && version !== 6)) return;
      const ns =
        view.getUint32(at + HEARD.ktime + 4, true) * 2 ** 32 + view.getUint32(at + HEARD.ktime, true);
      const { source, destination, length, ttl } = IP[version];
      handle(
        bytes.subarray(ip + source, ip + source + length),
        bytes.subarray(ip + destination, ip + destination + length),
        segment,
        ns / 1e6,
        bytes[ip + ttl]!,
      );
    });
  }
}

// RFC 791 section 3.1 and RFC 8200 section 3: where the addresses and the hop limit lie, and an address's length.
const IP = {
  4: { source: 12, destination: 16, length: 4, ttl: 8 },
  6: { source: 8, destination: 24, length: 16, ttl: 7 },
} as const;
