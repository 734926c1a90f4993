/**
 * A TCP connection as data: what TCP_REPAIR can read from a socket and write into another.
 * A half-open connection of the pool is an image with empty queues (see fromHandshake), so that
 * materializing it and restoring a checkpoint are one code path: image → plan → executor.
 *
 * Sequence numbers, TSvals and windows are unsigned 32-bit integers in host order; windows are bytes,
 * already scaled unless said otherwise.
 */

import type { OptionValue } from "./options.ts";

/** One end of a connection: address of 4 or 16 bytes, port in host order. */
export interface TcpEnd {
  readonly address: Uint8Array;
  readonly port: number;
}

/** struct tcp_repair_window (include/uapi/linux/tcp.h). */
export interface RepairWindow {
  readonly snd_wl1: number;
  readonly snd_wnd: number;
  readonly max_window: number;
  readonly rcv_wnd: number;
  readonly rcv_wup: number;
}

/** Window scale shifts of both directions (RFC 7323 section 2), absent when not negotiated. */
export interface WindowScale {
  readonly snd_wscale: number;
  readonly rcv_wscale: number;
}

/** A socket option with an int value, set before connect. */
export interface IntOption {
  readonly level: number;
  readonly name: number;
  readonly value: number;
}

/** The states that can be restored, by their names in include/net/tcp_states.h without TCP_. */
export const TCP_STATES = [
  "ESTABLISHED",
  "SYN_SENT",
  "FIN_WAIT1",
  "FIN_WAIT2",
  "CLOSE_WAIT",
  "LAST_ACK",
  "CLOSING",
] as const;
export type TcpState = (typeof TCP_STATES)[number];

/** What only a socket can have that has been used. */
export interface LiveState {
  readonly state: TcpState;
  /** Bytes the application has not read: the last ones before rcv_nxt, or before the peer's FIN. */
  readonly received: Uint8Array;
  /** Bytes sent and not acknowledged, from snd_una on, then bytes that were never sent. */
  readonly sent: Uint8Array;
  readonly unsent: Uint8Array;
  /** Our FIN has left, which takes that nothing is unsent; always in FIN_WAIT2, never without a FIN of ours. */
  readonly finSent: boolean;
  /** Bytes a segment carries, as the path allowed when the image was made. The new path decides again. */
  readonly mss: number;
  /** The kernel chose the local port at connect, which leaves it usable for other destinations. */
  readonly portChosen: boolean;
  /** In the order of OPTION_ROWS, each at most once. */
  readonly options: readonly OptionValue[];
}

export interface TcpImage {
  readonly local: TcpEnd;
  readonly remote: TcpEnd;
  /** Sequence number of the first byte, SYN or FIN of ours that the peer has not acknowledged. */
  readonly snd_una: number;
  /** Sequence number of the next byte expected; 0 in SYN_SENT. */
  readonly rcv_nxt: number;
  /** The MSS the peer announced: the clamp of what we send. */
  readonly mss_clamp: number;
  /** The MSS our SYN announced. */
  readonly advmss: number;
  readonly wscale: WindowScale | undefined;
  readonly sackPermitted: boolean;
  /**
   * Our TSval clock's value: none sent so far is after it. Undefined without timestamps (RFC 7323 section 3). As
   * in TCP_TIMESTAMP, bit 0 is not of the value but tells that the clock counts µs instead of ms.
   */
  readonly tsval: number | undefined;
  readonly window: RepairWindow;
  /** Set before connect: what whoever restores wants the socket to have. */
  readonly options: readonly IntOption[];
  /** Absent: established, nothing queued, no socket option saved, as a half-open is. */
  readonly live?: LiveState;
}

/** The numbers of a handshake whose SYN-ACK has arrived and whose ACK has not been sent. */
export interface Handshake {
  readonly local: TcpEnd;
  readonly remote: TcpEnd;
  readonly iss: number;
  readonly irs: number;
  /** MSS and window of our SYN; window unscaled, as a SYN's always is. */
  readonly advmss: number;
  readonly synWindow: number;
  /** What the SYN-ACK said. snd_wscale undefined: it had no window scale option. mss 0: no MSS option. */
  readonly mss: number;
  readonly snd_wnd: number;
  readonly snd_wscale: number | undefined;
  readonly rcv_wscale: number;
  readonly sackPermitted: boolean;
  readonly tsval: number | undefined;
}

/** RFC 9293 section 3.7.1: the send MSS when the peer announces none. */
const DEFAULT_MSS: Readonly<Record<number, number>> = { 4: 536, 16: 1220 };

/**
 * The image of the connection this handshake makes once our ACK arrives: established, queues empty.
 * snd_wl1 = irs makes the first segment of the peer update our window, whatever its ISN
 * (net/ipv4/tcp_input.c tcp_may_update_window).
 */
export function fromHandshake(h: Handshake, options: readonly IntOption[]): TcpImage {
  const rcv_nxt = (h.irs + 1) >>> 0;
  return {
    local: h.local,
    remote: h.remote,
    snd_una: (h.iss + 1) >>> 0,
    rcv_nxt,
    mss_clamp: h.mss !== 0 ? h.mss : DEFAULT_MSS[h.remote.address.length]!,
    advmss: h.advmss,
    wscale: h.snd_wscale === undefined ? undefined : { snd_wscale: h.snd_wscale, rcv_wscale: h.rcv_wscale },
    sackPermitted: h.sackPermitted,
    tsval: h.tsval,
    window: {
      snd_wl1: h.irs,
      snd_wnd: h.snd_wnd,
      max_window: h.snd_wnd,
      rcv_wnd: h.synWindow,
      rcv_wup: rcv_nxt,
    },
    options,
  };
}
