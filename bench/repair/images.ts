/** Connections out of thin air: both ends of pairs on 127.0.0.1, as restore.c makes its end. */
import { TCP_NODELAY } from "../../native/abi/tcp.ts";
import type { TcpImage } from "../../native/repair/image.ts";

const LOOPBACK = Uint8Array.of(127, 0, 0, 1);
const IPPROTO_TCP = 6;
const REMOTE_PORT = 9;
const MSS = 65_495;
const WINDOW = 65_483;
const ISS = 1_000_000_000;
const IRS = 2_000_000_000;
const OPTIONS = [{ level: IPPROTO_TCP, name: TCP_NODELAY, value: 1 }] as const;

/** The end at `port`, or with `mirrored` the one at the other side: restored both, they are a connection. */
export function imageAt(port: number, mirrored = false): TcpImage {
  const local = { address: LOOPBACK, port };
  const remote = { address: LOOPBACK, port: REMOTE_PORT };
  const [iss, irs] = mirrored ? [IRS, ISS] : [ISS, IRS];
  return {
    local: mirrored ? remote : local,
    remote: mirrored ? local : remote,
    snd_una: iss + 1,
    rcv_nxt: irs + 1,
    mss_clamp: MSS,
    advmss: MSS,
    wscale: { snd_wscale: 7, rcv_wscale: 7 },
    sackPermitted: true,
    tsval: 1_000_000,
    window: { snd_wl1: irs, snd_wnd: WINDOW, max_window: WINDOW, rcv_wnd: WINDOW, rcv_wup: irs + 1 },
    options: OPTIONS,
  };
}
