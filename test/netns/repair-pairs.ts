/**
 * Connections of the loopback in every state and with every kind of queue, made by their kernels alone: for the
 * tests of the repair core. `ours` is the end to freeze; `theirs` is a peer that knows nothing of it.
 */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { EAGAIN } from "../../native/abi/errno.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, SOCK_CLOEXEC, SOCK_NONBLOCK } from "../../native/abi/socket.ts";
import { encodeSockaddr } from "../../native/address.ts";
import { check, lastErrno } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { type Nft, openNft } from "../../native/guard/nft.ts";
import { libc } from "../../native/libc.ts";
import { PollSet } from "../../native/net/poll-set.ts";
import { listenTcp, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import type { TcpState } from "../../native/repair/image.ts";

export type Fill = "empty" | "half" | "full";
/** Who may still write in a state. */
export const WE_WRITE: ReadonlySet<TcpState> = new Set(["ESTABLISHED", "CLOSE_WAIT"]);
export const THEY_WRITE: ReadonlySet<TcpState> = new Set(["ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2"]);

const HALF = 40_000;
const WINDOW = 60_000;
const CHUNK = 65_536;
/** How long a handshake on the loopback may take; it is over at once where the machine is not busy. */
const HANDSHAKE_MS = 5_000;
const incoming = Buffer.alloc(CHUNK);
const OPTIONS = ["timestamps", "window_scaling", "sack"] as const;

export interface Negotiation {
  readonly timestamps: boolean;
  readonly window_scaling: boolean;
  readonly sack: boolean;
}

/** Every combination. */
export const NEGOTIATIONS: readonly Negotiation[] = Array.from({ length: 8 }, (_, bits) => ({
  timestamps: (bits & 1) !== 0,
  window_scaling: (bits & 2) !== 0,
  sack: (bits & 4) !== 0,
}));

export function sysctl(name: string, value: string): void {
  writeFileSync(`/proc/sys/net/ipv4/${name}`, value);
}

/** What streams carry: random, and repeated after a prime, so that bytes tell their position and whose they are. */
const PERIOD = 1_048_573;
const source = Buffer.alloc(2 * PERIOD);
source.set(randomBytes(PERIOD));
source.copyWithin(PERIOD, 0, PERIOD);
const at = (position: number, whose: number, length: number): Buffer => {
  const from = (position + whose * 1_000) % PERIOD;
  return source.subarray(from, from + length);
};

/** One direction: what was written into it, and what has come out. */
export class Stream {
  written = 0;
  read = 0;
  ended = false;
  readonly #whose: number;

  constructor(whose: number) {
    this.#whose = whose;
  }

  /** Writes up to `length` bytes; as many as the kernel takes. */
  write(fd: number, length: number): void {
    for (let left = length; left > 0; ) {
      const bytes = at(this.written, this.#whose, Math.min(left, CHUNK));
      const sent = Number(libc.sendto(fd, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL, null, 0));
      if (sent < 0) {
        if (lastErrno() === EAGAIN) return;
        check(sent, "send", { fd });
      }
      this.written += sent;
      left -= sent;
    }
  }

  /** Reads what there is. Throws when a byte is not the one that was written there. */
  drain(fd: number): void {
    for (;;) {
      const got = Number(libc.recv(fd, incoming, CHUNK, MSG_DONTWAIT));
      if (got < 0) {
        if (lastErrno() === EAGAIN) return;
        check(got, "recv", { fd });
      }
      if (got === 0) {
        this.ended = true;
        return;
      }
      if (!incoming.subarray(0, got).equals(at(this.read, this.#whose, got))) {
        throw new Error(`not what was written at ${this.read}, ${got} bytes from there on`);
      }
      this.read += got;
    }
  }
}

/** The two ends of a connection, and what they have said. */
export class Pair implements Disposable {
  ours: Fd;
  theirs: Fd;
  readonly upstream = new Stream(1);
  readonly downstream = new Stream(2);
  readonly state: TcpState;

  constructor(ours: Fd, theirs: Fd, state: TcpState) {
    this.ours = ours;
    this.theirs = theirs;
    this.state = state;
  }

  /** Reads both ends. True once all that was written has arrived, and the ends that were said. */
  drain(): boolean {
    const { upstream, downstream, ours, theirs, state } = this;
    upstream.drain(theirs.number);
    downstream.drain(ours.number);
    return (
      upstream.read === upstream.written &&
      downstream.read === downstream.written &&
      upstream.ended === !WE_WRITE.has(state) &&
      downstream.ended === !THEY_WRITE.has(state)
    );
  }

  [Symbol.dispose](): void {
    this.ours.close();
    this.theirs.close();
  }
}

/** Makes pairs, on listeners of its own, and keeps what `ours` sends from arriving when a state or queue asks so. */
export class PairMaker implements Disposable {
  readonly #listeners: Readonly<Record<4 | 6, Fd>>;
  readonly #nft: Nft = openNft();

  constructor() {
    this.#listeners = {
      4: listenTcp({ address: "127.0.0.1", port: 0 }, 64),
      6: listenTcp({ address: "::1", port: 0 }, 64),
    };
    this.#run(
      "add table inet deaf\nadd set inet deaf from { type nf_proto . inet_service ; }\nadd set inet deaf to { type inet_service ; }\nadd chain inet deaf input { type filter hook input priority 0 ; }\nadd rule inet deaf input meta nfproto . tcp sport @from drop\nadd rule inet deaf input tcp dport @to drop\n",
    );
  }

  /** A connection of whose options these are agreed. */
  connect(family: 4 | 6, negotiation?: Negotiation): Pair {
    for (const name of OPTIONS) sysctl(`tcp_${name}`, negotiation?.[name] === false ? "0" : "1");
    const listener = this.#listeners[family];
    const ours = newTcpSocket(family, SOCK_NONBLOCK);
    const address = encodeSockaddr(localEndpoint(listener.number));
    libc.connect(ours.number, address, address.length); // EINPROGRESS; on the loopback it is mostly done by then
    using waiting = new PollSet([listener]);
    if (waiting.wait(HANDSHAKE_MS) === 0) throw new Error(`no connection within ${HANDSHAKE_MS} ms`);
    const theirs = check(
      libc.accept4(listener.number, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK),
      "accept4",
      {},
    );
    return new Pair(ours, new Fd(theirs), "ESTABLISHED");
  }

  /**
   * The peer hears nothing from this port any more: what is sent stays unacknowledged. Only of one family, because the
   * kernel may choose the same port again for a connection of the other one.
   */
  #deafen(family: 4 | 6, port: number): void {
    this.#run(`add element inet deaf from { ipv${family} . ${port} }\n`);
  }

  /** Whoever has this port hears nothing. */
  deafenTo(port: number): void {
    this.#run(`add element inet deaf to { ${port} }\n`);
  }

  /** All hear again. */
  undeafen(): void {
    this.#run("flush set inet deaf from\nflush set inet deaf to\n");
  }

  /** A connection in `state`: half or full queues hold bytes read by nobody, sent and lost, and never sent. */
  make(state: TcpState, family: 4 | 6, negotiation: Negotiation, fill: Fill): Pair {
    const made = this.connect(family, negotiation);
    const pair = new Pair(made.ours, made.theirs, state);
    const { upstream, downstream } = pair;
    const [ours, theirs] = [pair.ours.number, pair.theirs.number];
    const length = fill === "empty" ? 0 : fill === "half" ? HALF : Number.POSITIVE_INFINITY;
    // A FIN behind what does not fit would not arrive.
    downstream.write(theirs, THEY_WRITE.has(state) ? length : Math.min(length, WINDOW));
    const endOurs = (): void => void check(libc.shutdown(ours, SHUT_WR), "shutdown", { state });
    const endTheirs = (): void => void check(libc.shutdown(theirs, SHUT_WR), "shutdown", { state });
    if (state === "CLOSE_WAIT" || state === "LAST_ACK") endTheirs();
    if (state === "FIN_WAIT2") {
      upstream.write(ours, Math.min(length, HALF)); // acknowledged, as a FIN_WAIT2 takes
      endOurs();
      return pair;
    }
    this.#deafen(family, localEndpoint(ours).port);
    upstream.write(ours, length);
    if (!WE_WRITE.has(state)) endOurs();
    if (state === "CLOSING") endTheirs();
    return pair;
  }

  [Symbol.dispose](): void {
    this.#run("delete table inet deaf\n");
    this.#nft.close();
    this.#listeners[4].close();
    this.#listeners[6].close();
  }

  #run(commands: string): void {
    const result = this.#nft.run(commands);
    if (!result.ok) throw result.error;
  }
}
