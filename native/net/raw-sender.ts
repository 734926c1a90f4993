/**
 * Sends whole IP packets: SYN, ACK and RST of half-open connections, and the one ACK that seeds
 * ts_recent. IPPROTO_RAW sockets never receive, so every thread may have its own at no cost to traffic.
 */
import {
  AF_INET,
  AF_INET6,
  IPPROTO_RAW,
  MSG_DONTWAIT,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_SOCKET,
} from "../abi/socket.ts";
import { encodeSockaddrInto } from "../address.ts";
import { check, lastErrno } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { Memory } from "../memory.ts";
import { setMark } from "../sockopt.ts";
import { encodeUnreachableInto, type Quoted } from "../wire/icmp.ts";
import { encodePacketInto, type TcpPacket } from "../wire/packet.ts";

const PACKET_MAX = 2048;

export class RawSender implements Disposable {
  readonly #fd: Fd;
  readonly #memory = Memory.anonymous(4096);
  readonly #packet = this.#memory.bytes.subarray(0, PACKET_MAX);
  readonly #sockaddr = this.#memory.bytes.subarray(PACKET_MAX);

  /**
   * `mark`: SO_MARK of its packets, for what passes the guard; takes CAP_NET_ADMIN too.
   * Throws SyscallError EPERM without CAP_NET_RAW, EAFNOSUPPORT when the family is off.
   */
  constructor(family: 4 | 6, mark?: number) {
    const domain = family === 4 ? AF_INET : AF_INET6;
    this.#fd = new Fd(
      check(libc.socket(domain, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW), "socket", {
        family,
        type: "SOCK_RAW",
      }),
    );
    if (mark === undefined) return;
    try {
      setMark(this.#fd.number, mark);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Sends one packet, never waiting. Returns 0 or the error number (ENETUNREACH, EPERM from a firewall,
   * EAGAIN or ENOBUFS when the queue is full): a lost SYN is an ordinary event, not an exception.
   */
  send(packet: TcpPacket, payload?: Uint8Array): number {
    return this.#send(encodePacketInto(this.#packet, packet, payload), packet.dst);
  }

  /** The same with a packet that is encoded already. */
  sendBytes(packet: Uint8Array, dst: Uint8Array): number {
    this.#packet.set(packet);
    return this.#send(packet.length, dst);
  }

  /** Tells the sender of `quoted` that it does not arrive, in the name of its destination. As send(). */
  sendUnreachable(quoted: Quoted): number {
    return this.#send(encodeUnreachableInto(this.#packet, quoted), quoted.src);
  }

  /** Lets `bytes` of packets wait for their interfaces; within net.core.wmem_max where more is not permitted. */
  makeRoom(bytes: number): void {
    this.#memory.view.setInt32(0, bytes / 2, true); // the kernel doubles it
    for (const name of [SO_SNDBUFFORCE, SO_SNDBUF]) {
      if (libc.setsockoptAt(this.#fd.number, SOL_SOCKET, name, this.#memory.address, 4) === 0) return;
    }
  }

  /** Sends the first `length` bytes of the memory. */
  #send(length: number, dst: Uint8Array): number {
    const { address } = this.#memory;
    // sin6_port must be 0 or the protocol for a raw socket; IPv4 ignores it.
    const addressLength = encodeSockaddrInto(this.#sockaddr, dst, 0);
    const sent = Number(
      libc.sendtoAt(this.#fd.number, address, length, MSG_DONTWAIT, address + PACKET_MAX, addressLength),
    );
    return sent < 0 ? lastErrno() : 0;
  }

  close(): void {
    this.#fd.close();
    this.#memory.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
