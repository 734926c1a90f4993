/**
 * A TCP connection as data: what TCP_REPAIR can read from a socket and write into another.
 * A half-open connection of the pool is an image with empty queues (see fromHandshake), so that
 * materializing it and restoring a checkpoint are one code path: image → plan → executor.
 *
 * Sequence numbers, TSvals and windows are unsigned 32-bit integers in host order; windows are bytes,
 * already scaled unless said otherwise.
 */

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

export interface TcpImage {
  readonly local: TcpEnd;
  readonly remote: TcpEnd;
  /** Sequence number of the next byte to send and of the next byte expected. */
  readonly snd_nxt: number;
  readonly rcv_nxt: number;
  /** The MSS the peer announced: the clamp of what we send. */
  readonly mss_clamp: number;
  /** The MSS our SYN announced. */
  readonly advmss: number;
  readonly wscale: WindowScale | undefined;
  readonly sackPermitted: boolean;
  /** Our TSval clock's value now, even; undefined without timestamps (RFC 7323 section 3). */
  readonly tsval: number | undefined;
  readonly window: RepairWindow;
  readonly options: readonly IntOption[];
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
    snd_nxt: (h.iss + 1) >>> 0,
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
