/**
 * The part of a restore plan that a half-open does not need: queues, and the states after a FIN.
 *
 *   ESTABLISHED ──our FIN──▶ FIN_WAIT1 ──its ACK──▶ FIN_WAIT2
 *        │                       └────their FIN───▶ CLOSING
 *        └──their FIN──▶ CLOSE_WAIT ──our FIN──▶ LAST_ACK
 *
 * Every state is reached by what led to it. Our FIN: shutdown() in repair mode with the send queue chosen counts
 * as sent without a packet. Theirs, and the ACK of ours: a segment fed to the socket. Bytes that were never sent,
 * and a FIN behind them, are written outside repair mode while the peer's window is said to be closed.
 *
 * Read net/ipv4/tcp_output.c tcp_write_xmit() and net/ipv4/tcp.c tcp_send_rcvq() first.
 */
import { SO_RCVBUFFORCE, SO_SNDBUFFORCE, SOL_SOCKET } from "../abi/socket.ts";
import { seqAdd } from "../wire/seq.ts";
import { ACK, FIN } from "../wire/tcp.ts";
import type { LiveState, TcpImage, TcpState } from "./image.ts";
import { ENTER, LEAVE, RECV_QUEUE, SEND_QUEUE, SHUTDOWN, type SocketOp, setInt } from "./ops.ts";

type Step = "ourEnd" | "theirFin" | "ackOfOurFin";

const WAY: Readonly<Record<TcpState, readonly Step[]>> = {
  SYN_SENT: [],
  ESTABLISHED: ["ourEnd"],
  FIN_WAIT1: ["ourEnd"],
  FIN_WAIT2: ["ourEnd", "ackOfOurFin"],
  CLOSING: ["ourEnd", "theirFin"],
  CLOSE_WAIT: ["theirFin", "ourEnd"],
  LAST_ACK: ["theirFin", "ourEnd"],
};

const WITH_OUR_FIN: ReadonlySet<TcpState> = new Set(["FIN_WAIT1", "FIN_WAIT2", "CLOSING", "LAST_ACK"]);

/** Whether the peer's FIN came, so that rcv_nxt is after it. */
export const hasTheirFin = (state: TcpState): boolean => WAY[state].includes("theirFin");
/** Whether our FIN is in the send queue, sent or not. In FIN_WAIT2 it was acknowledged. */
export const hasOurFin = (state: TcpState): boolean => WITH_OUR_FIN.has(state) && state !== "FIN_WAIT2";

/** Both buffers while the queues are filled; the kernel counts what it needs otherwise than the original did. */
const ROOM = 0x2000_0000;
/** Window that takes the peer's FIN, and the hop limit of what is fed. */
const FIN_WINDOW = 65_535;
const TTL = 64;

/** What fills the queues of a connected socket in repair mode and takes it to its state. */
export function queueOps(image: TcpImage, live: LiveState): SocketOp[] {
  const { state, received, sent, unsent, finSent } = live;
  const way = WAY[state];
  const isPlain = state === "ESTABLISHED" && unsent.length === 0;
  const ops: SocketOp[] = [];
  if (received.length + sent.length + unsent.length > 0) {
    ops.push(setInt(SOL_SOCKET, SO_SNDBUFFORCE, ROOM), setInt(SOL_SOCKET, SO_RCVBUFFORCE, ROOM));
  }
  if (received.length > 0) ops.push(RECV_QUEUE, { op: "write", bytes: received });
  if (sent.length > 0) ops.push(SEND_QUEUE, { op: "write", bytes: sent });
  if (isPlain) return ops;
  // Nothing may go out and the FIN may come in; the true window follows the queues.
  const rcv_nxt = seqAdd(image.rcv_nxt, hasTheirFin(state) ? -1 : 0);
  const { max_window } = image.window;
  const window = { snd_wl1: rcv_nxt, snd_wnd: 0, max_window, rcv_wnd: FIN_WINDOW, rcv_wup: rcv_nxt };
  ops.push({ op: "setWindow", window });
  for (const step of way) {
    // Feeding with the send queue chosen would count what is unsent as sent.
    if (step === "ourEnd") ops.push(...ourEndOps(unsent, WITH_OUR_FIN.has(state), finSent));
    else ops.push(RECV_QUEUE, feedOp(image, rcv_nxt, step));
  }
  return ops;
}

/** What follows the sent bytes: those unsent, and our FIN. */
function ourEndOps(unsent: Uint8Array, fin: boolean, finSent: boolean): SocketOp[] {
  const end: SocketOp[] = fin ? [SHUTDOWN] : [];
  if (unsent.length === 0 && (!fin || finSent)) return fin ? [SEND_QUEUE, ...end] : [];
  const bytes: SocketOp[] = unsent.length > 0 ? [{ op: "write", bytes: unsent }] : [];
  return [LEAVE, ...bytes, ...end, ENTER];
}

/** Without timestamps: PAWS lets such a segment pass, and it leaves ts_recent alone. */
function feedOp({ local, remote, snd_una }: TcpImage, seq: number, step: Exclude<Step, "ourEnd">): SocketOp {
  const flags = step === "theirFin" ? FIN | ACK : ACK;
  const ends = { src: remote.address, dst: local.address, sport: remote.port, dport: local.port };
  return { op: "feed", packet: { ...ends, seq, ack: snd_una, flags, window: 0, options: {}, ttl: TTL } };
}
