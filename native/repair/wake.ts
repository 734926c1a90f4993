/**
 * Wakes the peer of a connection that has stood still. While nobody answered, its timer has backed off, for up to
 * two minutes, and it ignores plain duplicate ACKs by then (CA_Loss). It is told, in this order:
 *
 *   a segment it has, when something of ours is unacknowledged   it answers with what it has, and its window
 *   host unreachable for its snd_una (RFC 6069)                  each halves its timer; when that has passed, it sends
 *   ACKs with a D-SACK below its snd_una, where SACK is agreed   its retransmissions were needless: it sends on
 *   plain ACKs otherwise                                         before it is in CA_Loss the third has it retransmit
 *
 * A peer whose timer cannot have fired yet is not in CA_Loss: it is told less.
 *
 * The D-SACKs first would make it forget the timer that the others halve, at the cost of another round trip. The ACKs
 * are the kernel's own, so that clock and window are its own too: it is fed a byte that it has had.
 *
 * Read net/ipv4/tcp_input.c tcp_send_dupack(), tcp_process_loss() and net/ipv4/tcp_ipv4.c tcp_ld_RTO_revert().
 */
import * as tcp from "../abi/tcp.ts";
import { seqAdd } from "../wire/seq.ts";
import { ACK, type TcpSegment } from "../wire/tcp.ts";
import type { Held } from "./held.ts";
import type { RepairKit } from "./kit.ts";
import { setTcp } from "./ops.ts";
import { applyOps } from "./restore.ts";
import { readNegotiated, readQueue, readTcp, readUnacknowledged, readWindow } from "./socket-reader.ts";

/** Where a connection stands. */
export interface Bearings {
  /** What our last ACK said: the peer's snd_una, unless that was lost. */
  readonly rcv_wup: number;
  /** Something of ours is unacknowledged or was never sent. */
  readonly isSending: boolean;
  readonly hasUnsent: boolean;
  readonly sack: boolean;
  /** A segment that the peer has had, where the kernel does not send one by itself. */
  readonly old: Omit<TcpSegment, "sport" | "dport"> | undefined;
}

/** Reads them in repair mode. Undefined in SYN_SENT, where there is nobody to wake. Throws SyscallError. */
export function readBearings({ fd }: Held): Bearings | undefined {
  const { state, timestamps, sack, notsent, isSending } = readNegotiated(fd);
  if (state === tcp.TCP_SYN_SENT) return undefined;
  const { rcv_wup } = readWindow(fd);
  const needsOld = isSending && state !== tcp.TCP_ESTABLISHED;
  const old = needsOld ? readOld(fd, timestamps) : undefined;
  return { rcv_wup, isSending, hasUnsent: notsent > 0, sack, old };
}

function readOld(fd: number, timestamps: boolean): NonNullable<Bearings["old"]> {
  const snd_una = seqAdd(readQueue(fd, "send", false).seq, -readUnacknowledged(fd));
  const ack = readQueue(fd, "receive", false).seq;
  const options = timestamps ? { tsval: readTcp(fd, tcp.TCP_TIMESTAMP) } : {};
  return { seq: seqAdd(snd_una, -1), ack, flags: ACK, window: 0, options };
}

/** Duplicate ACKs that start a fast retransmit (RFC 5681). */
const ACKS = 3;
/** The shortest timer of Linux, which each time it fires backs off to the double, and what undoes that for a minute. */
const TCP_RTO_MIN_MS = 200;
const UNREACHABLES_MAX = 8;
const TTL = 64;
const BYTE = new Uint8Array(1);

/** How often a timer may have fired while nobody answered. */
function timeoutsWithin(stoodMs: number): number {
  if (stoodMs < TCP_RTO_MIN_MS) return 0;
  return Math.min(UNREACHABLES_MAX, Math.ceil(Math.log2(1 + stoodMs / TCP_RTO_MIN_MS)));
}

/**
 * Sends what wakes the peer of a connection that stood still for at most `stoodMs`, and has the kernel send what was
 * never sent. The connection must be out of the guard and of repair mode. Throws SyscallError.
 */
export function wake(kit: RepairKit, { fd, local, remote }: Held, where: Bearings, stoodMs: number): void {
  const { rcv_wup, old } = where;
  const ours = { src: local.address, dst: remote.address, sport: local.port, dport: remote.port, ttl: TTL };
  const theirs = { src: remote.address, dst: local.address, sport: remote.port, dport: local.port, ttl: TTL };
  if (old !== undefined) kit.hint({ ...ours, ...old });
  if (where.hasUnsent) push(fd);
  const timeouts = timeoutsWithin(stoodMs);
  // Where no timer has fired, one that hears of losses by SACK has nothing to learn.
  if (timeouts === 0 && where.sack) return;
  for (let count = 0; count < timeouts; count++) {
    kit.hintUnreachable({ ...theirs, seq: rcv_wup, ack: 0, flags: ACK, window: 0 });
  }
  // Before rcv_wup, so that nothing but its age is looked at: neither its ACK nor its window.
  const had = { ...theirs, seq: seqAdd(rcv_wup, -2), ack: 0, flags: ACK, window: 0, options: {} };
  for (let count = 0; count < ACKS; count++) kit.feed(fd, had, BYTE);
}

/**
 * Has the kernel send what its windows allow: setting TCP_NODELAY does (net/ipv4/tcp.c __tcp_sock_set_nodelay()).
 * Under TCP_CORK it would send what the cork holds; the next ACK pushes the rest.
 */
function push(fd: number): void {
  if (readTcp(fd, tcp.TCP_CORK) === 1) return;
  const nodelay = readTcp(fd, tcp.TCP_NODELAY);
  applyOps(fd, [setTcp(tcp.TCP_NODELAY, 1), setTcp(tcp.TCP_NODELAY, nodelay)]);
}
