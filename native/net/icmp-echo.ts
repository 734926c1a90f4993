import {
  ICMP_ECHO,
  ICMP_ECHOREPLY,
  ICMPV6_ECHO_REPLY,
  ICMPV6_ECHO_REQUEST,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
} from "../abi/icmp.ts";
import {
  AF_INET,
  AF_INET6,
  MSG_DONTWAIT,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOCKADDR_IN_SIZE,
  SOCKADDR_IN6_SIZE,
} from "../abi/socket.ts";
import { check } from "../errno.ts";
import { Fd } from "../fd.ts";
import { libc } from "../libc.ts";
import { checksum } from "../wire/checksum.ts";
import { PollSet } from "./poll-set.ts";

const HEADER_SIZE = 8;
const ANSWER_SIZE = 1500;

/**
 * Measures round trips as ping does, without the scheduling of an event loop in the figure: the thread waits
 * in ppoll(2). Belongs to the network namespace it is made in. Owner of its socket until close().
 */
export class IcmpEcho implements Disposable {
  readonly #fd: Fd;
  readonly #family: 4 | 6;
  readonly #target: Buffer;
  readonly #poll: PollSet;
  readonly #identifier = process.pid & 0xffff;
  readonly #answer = Buffer.alloc(ANSWER_SIZE);
  #sequence = 0;

  /** `address` is 4 or 16 bytes. Throws SyscallError EPERM without CAP_NET_RAW. */
  constructor(address: Uint8Array) {
    this.#family = address.length === 4 ? 4 : 6;
    const isIpv4 = this.#family === 4;
    const protocol = isIpv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
    const domain = isIpv4 ? AF_INET : AF_INET6;
    this.#target = Buffer.alloc(isIpv4 ? SOCKADDR_IN_SIZE : SOCKADDR_IN6_SIZE);
    this.#target.writeUInt16LE(domain, 0);
    this.#target.set(address, isIpv4 ? 4 : 8);
    this.#fd = new Fd(
      check(libc.socket(domain, SOCK_RAW | SOCK_CLOEXEC, protocol), "socket", { domain, protocol }),
    );
    this.#poll = new PollSet([this.#fd]);
  }

  /**
   * Sends one request and blocks until its reply. Returns the round trip in milliseconds, undefined when none
   * came within `timeoutMs`. Throws SyscallError ENETUNREACH, ENETDOWN.
   */
  measureMs(timeoutMs: number): number | undefined {
    const request = this.#request(++this.#sequence & 0xffff);
    const { number } = this.#fd;
    const sentMs = performance.now();
    check(libc.sendto(number, request, HEADER_SIZE, 0, this.#target, this.#target.length), "sendto", {});
    for (;;) {
      const leftMs = sentMs + timeoutMs - performance.now();
      if (leftMs <= 0) return undefined;
      if (this.#poll.wait(leftMs) === 0) continue;
      const nowMs = performance.now();
      const length = check(libc.recv(number, this.#answer, ANSWER_SIZE, MSG_DONTWAIT), "recv", {});
      if (this.#isReply(length)) return nowMs - sentMs;
    }
  }

  close(): void {
    this.#poll.close();
    this.#fd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** RFC 792 and RFC 4443: type, code, checksum, identifier, sequence. The kernel sums up ICMPv6 itself. */
  #request(sequence: number): Buffer {
    const request = Buffer.alloc(HEADER_SIZE);
    request[0] = this.#family === 4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST;
    request.writeUInt16BE(this.#identifier, 4);
    request.writeUInt16BE(sequence, 6);
    if (this.#family === 4) request.writeUInt16BE(checksum(request, 0, HEADER_SIZE), 2);
    return request;
  }

  /** A raw socket sees every ICMP packet, for IPv4 with its IP header. */
  #isReply(length: number): boolean {
    const at = this.#family === 4 ? (this.#answer[0]! & 0xf) * 4 : 0;
    return (
      length >= at + HEADER_SIZE &&
      this.#answer[at] === (this.#family === 4 ? ICMP_ECHOREPLY : ICMPV6_ECHO_REPLY) &&
      this.#answer.readUInt16BE(at + 4) === this.#identifier &&
      this.#answer.readUInt16BE(at + 6) === (this.#sequence & 0xffff)
    );
  }
}
