/**
 * Wakes the peer of a connection that has stood still. While nobody answered, its timer has backed off, for up to
 * two minutes, and it ignores plain duplicate ACKs by then (CA_Loss). Four things are said, each to whom it helps:
 *
 *   a segment it has, when something of ours is unacknowledged   it answers with what it has, and its window
 *   ACKs with a D-SACK below its snd_una, where SACK is agreed   its retransmissions were needless: it sends on
 *   plain ACKs otherwise                                         after the third it retransmits
 *   host unreachable for its snd_una (RFC 6069)                  each halves its timer; when that has passed, it sends
 *
 * Read net/ipv4/tcp_input.c tcp_process_loss() and net/ipv4/tcp_ipv4.c tcp_ld_RTO_revert().
 */
import * as tcp from "../abi/tcp.ts";
import { seqAdd, seqDiff } from "../wire/seq.ts";
import { ACK } from "../wire/tcp.ts";
import type { Held } from "./held.ts";
import type { RepairKit } from "./kit.ts";
import { setTcp } from "./ops.ts";
import { applyOps } from "./restore.ts";
import { readNegotiated, readQueue, readTcp, readUnacknowledged, readWindow } from "./socket-reader.ts";

/** Where a connection stands: what its next segment would say. */
export interface Bearings {
  readonly snd_una: number;
  readonly snd_nxt: number;
  readonly rcv_nxt: number;
  /** As the wire has it, shifted. */
  readonly window: number;
  readonly tsval: number | undefined;
  readonly sack: boolean;
  readonly hasUnsent: boolean;
}

/** Reads them in repair mode. Undefined in SYN_SENT, where there is nobody to wake. Throws SyscallError. */
export function readBearings({ fd }: Held): Bearings | undefined {
  const { state, sack, timestamps, notsent, rcv_wscale } = readNegotiated(fd);
  if (state === tcp.TCP_SYN_SENT) return undefined;
  const write_seq = readQueue(fd, "send", false).seq;
  const rcv_nxt = readQueue(fd, "receive", false).seq;
  const { rcv_wup, rcv_wnd } = readWindow(fd);
  const windowBytes = Math.max(0, seqDiff(seqAdd(rcv_wup, rcv_wnd), rcv_nxt));
  return {
    snd_una: seqAdd(write_seq, -readUnacknowledged(fd)),
    snd_nxt: seqAdd(write_seq, -notsent),
    rcv_nxt,
    window: Math.min(windowBytes >>> rcv_wscale, WINDOW_MAX),
    tsval: timestamps ? readTcp(fd, tcp.TCP_TIMESTAMP) : undefined,
    sack,
    hasUnsent: notsent > 0,
  };
}

const WINDOW_MAX = 0xffff;
/** Duplicate ACKs that start a fast retransmit (RFC 5681), and what the kernel calls a burst of D-SACKs. */
const ACKS = 3;
/** Halvings of a timer that began at 0.2 s: enough after a minute. */
const UNREACHABLES = 8;
const TTL = 64;

/**
 * Sends what wakes the peer, and has the kernel send what was never sent. The connection must be out of repair mode
 * and out of the guard. A packet that cannot be sent is left to the timers.
 */
export function wake(kit: RepairKit, { fd, local, remote }: Held, where: Bearings): void {
  const { snd_una, snd_nxt, rcv_nxt, window, tsval, sack } = where;
  const ends = { src: local.address, dst: remote.address, sport: local.port, dport: remote.port };
  const segment = { ...ends, ack: rcv_nxt, flags: ACK, window, ttl: TTL };
  const options = tsval === undefined ? {} : { tsval };
  if (snd_una !== snd_nxt || where.hasUnsent) {
    kit.send({ ...segment, seq: seqAdd(snd_una, -1), options });
    if (where.hasUnsent) push(fd);
  }
  const ack = { ...segment, seq: snd_nxt, options };
  const dsack = [seqAdd(rcv_nxt, -1), rcv_nxt] as const;
  for (let count = 0; count < ACKS; count++) {
    kit.send(sack ? { ...ack, options: { ...options, sack: dsack } } : ack);
  }
  const quoted = {
    src: remote.address,
    dst: local.address,
    sport: remote.port,
    dport: local.port,
    seq: rcv_nxt,
  };
  for (let count = 0; count < UNREACHABLES; count++) {
    kit.sendUnreachable({ ...quoted, ack: snd_nxt, flags: ACK, window, ttl: TTL });
  }
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
