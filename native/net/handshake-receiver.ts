/**
 * Hears every SYN-ACK and RST that reaches this namespace, before TCP does: a raw IPPROTO_TCP socket
 * with a filter. The kernel clones each TCP packet to it first; docs/internals/pool.md says what that costs.
 */

import { EAGAIN, EINTR } from "../abi/errno.ts";
import * as so from "../abi/socket.ts";
import { attachFilter, handshakeFilter } from "../bpf/filters.ts";
import { nowMs } from "../clock.ts";
import { check, lastErrno, SyscallError } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { setIntOption, setReceiveBuffer, setTimestampNs } from "../sockopt.ts";
import { decodePacket } from "../wire/packet.ts";
import { decodeTcp, type TcpSegment } from "../wire/tcp.ts";

const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
const BATCH = 32;
const SEGMENT_MAX = 2048; // SYN-ACK and RST may carry data; longer ones are not for us
const CONTROL_SIZE = 80;
const NAME_SIZE = 32;

// struct mmsghdr on 64-bit: msghdr (name 0, namelen 8, iov 16, iovlen 24, control 32, controllen 40,
// flags 48; 56 bytes), msg_len 56, padding: 64 bytes. struct iovec: base 0, len 8.
const MMSGHDR_SIZE = 64;
const IOVEC_SIZE = 16;
const SCM_TIMESTAMPNS = so.SO_TIMESTAMPNS;
// struct cmsghdr: len u64, level i32, type i32, then the data: struct timespec of two i64.
const CMSG_DATA = 16;
const TIMESPEC_SIZE = 16;
// Behind it on IPv6: struct in6_pktinfo begins with the address.
const PKTINFO_AT = CMSG_DATA + TIMESPEC_SIZE;
const PKTINFO_ROOM = PKTINFO_AT + 40;
const CLOCK_REALTIME = 0;

/**
 * One segment heard. Addresses are only valid during the call. `arrivedMs` is of clock.nowMs(). `ttl` is as it
 * arrived, undefined on IPv6, whose raw sockets do not show the header.
 */
export type SegmentHandler = (
  source: Uint8Array,
  destination: Uint8Array,
  segment: TcpSegment,
  arrivedMs: number,
  ttl: number | undefined,
) => void;

export class HandshakeReceiver {
  /** Readable when segments wait; borrowed by a poll set. */
  readonly fd: Fd;
  readonly #family: 4 | 6;
  readonly #memory = Memory.anonymous(96 * 1024);
  readonly #names = BATCH * MMSGHDR_SIZE + BATCH * IOVEC_SIZE;
  readonly #controls = this.#names + BATCH * NAME_SIZE;
  readonly #segments = this.#controls + BATCH * CONTROL_SIZE;

  /** Throws SyscallError EPERM without CAP_NET_RAW, EAFNOSUPPORT when the family is off. */
  constructor(family: 4 | 6) {
    this.#family = family;
    const domain = family === 4 ? so.AF_INET : so.AF_INET6;
    const type = so.SOCK_RAW | so.SOCK_CLOEXEC | so.SOCK_NONBLOCK;
    this.fd = new Fd(
      check(libc.socket(domain, type, so.IPPROTO_TCP), "socket", { family, type: "SOCK_RAW" }),
    );
    attachFilter(this.fd.number, handshakeFilter(family));
    setTimestampNs(this.fd.number);
    if (family === 6) setIntOption(this.fd.number, so.IPPROTO_IPV6, so.IPV6_RECVPKTINFO, 1);
    setReceiveBuffer(this.fd.number, RECEIVE_BUFFER_BYTES);
    this.#layOut();
  }

  /** Hands every segment that waits to `handle`, oldest first. Returns how many. */
  drain(handle: SegmentHandler): number {
    let total = 0;
    for (;;) {
      this.#resetLengths();
      const count = Number(libc.recvmmsgAt(this.fd.number, this.#memory.address, BATCH, so.MSG_DONTWAIT, 0));
      if (count < 0) {
        const errno = lastErrno();
        if (errno === EAGAIN || errno === EINTR) return total;
        throw new SyscallError("recvmmsg", errno, { family: this.#family });
      }
      // SO_TIMESTAMPNS dates by the wall clock; what we want is the age.
      const wallMs = this.#wallClockMs();
      const monotonicMs = nowMs();
      for (let index = 0; index < count; index++) this.#handle(index, monotonicMs, wallMs, handle);
      total += count;
      if (count < BATCH) return total;
    }
  }

  close(): void {
    this.fd.close();
    this.#memory.close();
  }

  #handle(index: number, monotonicMs: number, wallMs: number, handle: SegmentHandler): void {
    const { bytes, view } = this.#memory;
    const start = this.#segments + index * SEGMENT_MAX;
    const length = view.getUint32(index * MMSGHDR_SIZE + 56, true);
    const data = bytes.subarray(start, start + Math.min(length, SEGMENT_MAX));
    const arrivedMs = monotonicMs - Math.max(0, wallMs - this.#timestampMs(index, wallMs));
    if (this.#family === 4) {
      const packet = decodePacket(data);
      if (packet) handle(packet.src, packet.dst, packet, arrivedMs, packet.ttl);
    } else {
      const segment = decodeTcp(data, 0, data.length);
      const source = this.#names + index * NAME_SIZE + 8; // sin6_addr
      const destination = this.#destinationAt(index);
      if (!segment || destination === undefined) return;
      const to = bytes.subarray(destination, destination + 16);
      handle(bytes.subarray(source, source + 16), to, segment, arrivedMs, undefined);
    }
  }

  /** Where the address of an IPv6 packet's destination lies, which the header would tell. */
  #destinationAt(index: number): number | undefined {
    const { view } = this.#memory;
    const at = this.#controls + index * CONTROL_SIZE + PKTINFO_AT;
    const isThere =
      view.getBigUint64(index * MMSGHDR_SIZE + 40, true) >= BigInt(PKTINFO_ROOM - 4) &&
      view.getInt32(at + 8, true) === so.IPPROTO_IPV6 &&
      view.getInt32(at + 12, true) === so.IPV6_PKTINFO;
    return isThere ? at + CMSG_DATA : undefined;
  }

  /** The kernel's receive time in ms since the epoch; `otherwise` when it gave none. */
  #timestampMs(index: number, otherwise: number): number {
    const { view } = this.#memory;
    const at = this.#controls + index * CONTROL_SIZE;
    const stamped =
      view.getBigUint64(index * MMSGHDR_SIZE + 40, true) >= 32n &&
      view.getInt32(at + 8, true) === so.SOL_SOCKET &&
      view.getInt32(at + 12, true) === SCM_TIMESTAMPNS;
    return stamped ? this.#timespecMs(at + CMSG_DATA) : otherwise;
  }

  /** CLOCK_REALTIME itself: performance.timeOrigin does not follow a clock that is set. */
  #wallClockMs(): number {
    const at = this.#memory.size - TIMESPEC_SIZE;
    check(libc.clockGettimeAt(CLOCK_REALTIME, this.#memory.address + at), "clock_gettime", {});
    return this.#timespecMs(at);
  }

  /** struct timespec: two i64. */
  #timespecMs(at: number): number {
    const { view } = this.#memory;
    const seconds = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
    return seconds * 1e3 + view.getUint32(at + 8, true) / 1e6;
  }

  #layOut(): void {
    const { address, view } = this.#memory;
    for (let index = 0; index < BATCH; index++) {
      const header = index * MMSGHDR_SIZE;
      const iovec = BATCH * MMSGHDR_SIZE + index * IOVEC_SIZE;
      view.setBigUint64(header, BigInt(address + this.#names + index * NAME_SIZE), true);
      view.setBigUint64(header + 16, BigInt(address + iovec), true);
      view.setBigUint64(header + 24, 1n, true);
      view.setBigUint64(header + 32, BigInt(address + this.#controls + index * CONTROL_SIZE), true);
      view.setBigUint64(iovec, BigInt(address + this.#segments + index * SEGMENT_MAX), true);
      view.setBigUint64(iovec + 8, BigInt(SEGMENT_MAX), true);
    }
  }

  /** namelen and controllen are in-out: the kernel shortened them. */
  #resetLengths(): void {
    const { view } = this.#memory;
    for (let index = 0; index < BATCH; index++) {
      const header = index * MMSGHDR_SIZE;
      view.setUint32(header + 8, NAME_SIZE, true);
      view.setUint32(header + 40, CONTROL_SIZE, true);
      view.setUint32(header + 44, 0, true);
    }
  }
}
