/** A half-open connection on the loopback by the parts that make one, for the tests of this folder. */
import { parseAddress } from "../../native/address.ts";
import { SyscallError } from "../../native/errno.ts";
import { Fd } from "../../native/fd.ts";
import { PollSet } from "../../native/net/poll-set.ts";
import { RawSender } from "../../native/net/raw-sender.ts";
import { listenTcp, localEndpoint, probeRoute, type Reservation } from "../../native/net/tcp-socket.ts";
import { fromHandshake, type TcpImage } from "../../native/repair/image.ts";
import type { TcpPacket } from "../../native/wire/packet.ts";
import { RST, SYN, type TcpSegment } from "../../native/wire/tcp.ts";
import {
  type Hearing,
  type HearingKind,
  openHearing,
  openSteering,
  type PortGuard,
} from "../../pool/hearing.ts";
import type { SteeredPorts } from "../../pool/steered-ports.ts";

export const ISS = 0x8000_1234;
const TSVAL = 4_000;
const WSCALE = 7;

/** The loopback address of a family. */
export const loopback = (family: 4 | 6): Uint8Array => parseAddress(family === 4 ? "127.0.0.1" : "::1")!;

export const silent = { debug: () => {}, info: () => {}, warn: () => {} };

const canUseBpf = hasBpf();

/** The test function, or its skip where `kind` cannot be had: bpf takes CAP_BPF in the first user namespace. */
export function onlyFor<T extends { readonly skip: unknown }>(kind: HearingKind, test: T): T | T["skip"] {
  return kind === "raw" || canUseBpf ? test : test.skip;
}

function hasBpf(): boolean {
  try {
    openHearing("bpf", true, silent).close();
    return true;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    console.log(`tests of bpf are skipped: ${error.message}; they need CAP_BPF`);
    return false;
  }
}

/** Copies of the segments that come within `timeoutMs`, or the first `count` of them. */
export function hear(
  receiver: Pick<Hearing, "fds" | "drain">,
  count: number,
  timeoutMs: number,
): TcpSegment[] {
  const heard: TcpSegment[] = [];
  const endsAt = performance.now() + timeoutMs;
  using poll = new PollSet(receiver.fds);
  while (heard.length < count && performance.now() < endsAt) {
    poll.wait(Math.max(0, endsAt - performance.now()));
    receiver.drain((_source, _destination, segment) => heard.push(structuredClone(segment)));
  }
  return heard;
}

/** A listener, a reservation and what hears; open() makes the half-open. */
export class HalfOpen implements Disposable {
  readonly family: 4 | 6;
  readonly listener: Fd;
  readonly reservation: Reservation;
  readonly receiver: Hearing & PortGuard;
  readonly steered: SteeredPorts | undefined;
  readonly sender: RawSender;
  readonly port: number;

  constructor(family: 4 | 6, kind: HearingKind = "raw") {
    this.family = family;
    this.listener = listenTcp({ address: family === 4 ? "127.0.0.1" : "::1", port: 0 }, 8);
    this.port = localEndpoint(this.listener.number).port;
    this.receiver = openHearing(kind, true, silent);
    this.receiver.add(family);
    this.steered = openSteering(kind, this.receiver, silent);
    this.hearFrom(this.port);
    this.reservation = this.reserve();
    this.sender = new RawSender(family);
  }

  /** Another port, silent about handshakes. */
  reserve(): Reservation {
    const port = this.steered?.take();
    return port === undefined ? this.receiver.reserve() : { port, fd: Fd.none() };
  }

  /** What comes from this port of the loopback address is for our ports: only steered ones need to be told. */
  hearFrom(port: number): void {
    this.steered?.add({ address: loopback(this.family), port });
  }

  /** Sends a segment from the reservation's port to the listener. */
  send(segment: Pick<TcpPacket, "seq" | "ack" | "flags" | "options">): number {
    const address = loopback(this.family);
    const ends = { src: address, dst: address, sport: this.reservation.port, dport: this.port };
    return this.sender.send({ ...ends, ...segment, window: 65_495, ttl: 64 });
  }

  /** Sends the SYN; returns the SYN-ACK and the image of the connection it makes. */
  open(): { synAck: TcpSegment; image: TcpImage } {
    const address = loopback(this.family);
    const { advmss, window } = probeRoute(address, this.port);
    const options = { mss: advmss, sackPermitted: true, tsval: TSVAL, tsecr: 0, wscale: WSCALE };
    this.send({ seq: ISS, ack: 0, flags: SYN, options });
    const synAck = hear(this.receiver, 1, 1_000).find(({ flags }) => (flags & RST) === 0);
    if (!synAck) throw new Error("no SYN-ACK");
    const image = fromHandshake(
      {
        local: { address, port: this.reservation.port },
        remote: { address, port: this.port },
        iss: ISS,
        irs: synAck.seq,
        advmss,
        synWindow: window,
        mss: synAck.options.mss ?? 0,
        snd_wnd: synAck.window,
        snd_wscale: synAck.options.wscale,
        rcv_wscale: WSCALE,
        sackPermitted: synAck.options.sackPermitted === true,
        tsval: TSVAL,
      },
      this.receiver.socketOptions,
    );
    return { synAck, image };
  }

  [Symbol.dispose](): void {
    this.listener.close();
    this.reservation.fd.close();
    this.steered?.close();
    this.receiver.close();
    this.sender.close();
  }
}
