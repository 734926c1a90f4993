import { type Endpoint, parseAddress } from "../../native/address.ts";
import { HandshakeReceiver } from "../../native/net/handshake-receiver.ts";
import { ACK, RST, SYN, type TcpSegment } from "../../native/wire/tcp.ts";

/** What SYN-ACKs of one server looked like, over ordinary and half-open connections alike. */
export interface SynAckTraits {
  /** Different sets of options, as text for people. */
  readonly options: readonly string[];
  /** Different times to live, ascending; none on IPv6. */
  readonly ttls: readonly number[];
  /** Different advertised windows, ascending. */
  readonly windows: readonly number[];
}

type PortHandler = (segment: TcpSegment, arrivedMs: number) => void;

/** Hears every SYN-ACK and RST of one server, whoever asked for it. Owns a raw socket until close(). */
export class Observer {
  readonly #address: string;
  readonly #port: number;
  readonly #receiver: HandshakeReceiver;
  readonly #watched = new Map<number, PortHandler>();
  readonly #options = new Set<string>();
  readonly #ttls = new Set<number>();
  readonly #windows = new Set<number>();

  /** Throws SyscallError EPERM without CAP_NET_RAW, EAFNOSUPPORT when the family is off. */
  constructor({ address, port }: Endpoint) {
    const bytes = parseAddress(address);
    if (bytes === undefined) throw new Error(`not an address: ${address}`);
    this.#address = bytes.join();
    this.#port = port;
    this.#receiver = new HandshakeReceiver(bytes.length === 4 ? 4 : 6);
  }

  /** Hands SYN-ACKs and RSTs for a local port to `handler`, until it is undefined. */
  watch(port: number, handler: PortHandler | undefined): void {
    if (handler === undefined) this.#watched.delete(port);
    else this.#watched.set(port, handler);
  }

  /** Takes in what has arrived. */
  step(): void {
    this.#receiver.drain((source, _to, segment, arrivedMs, ttl) => {
      if (segment.sport !== this.#port || source.join() !== this.#address) return;
      if ((segment.flags & (SYN | ACK | RST)) === (SYN | ACK)) this.#note(segment, ttl);
      this.#watched.get(segment.dport)?.(segment, arrivedMs);
    });
  }

  get traits(): SynAckTraits {
    const ascending = (values: Iterable<number>) => [...values].sort((a, b) => a - b);
    return {
      options: [...this.#options].sort(),
      ttls: ascending(this.#ttls),
      windows: ascending(this.#windows),
    };
  }

  close(): void {
    this.#receiver.close();
  }

  #note({ options, window }: TcpSegment, ttl: number | undefined): void {
    const { mss, wscale, sackPermitted, tsval } = options;
    const words = [
      mss === undefined ? "no MSS" : `MSS ${mss}`,
      wscale === undefined ? "no window scale" : `window scale ${wscale}`,
      sackPermitted === true ? "SACK" : "no SACK",
      tsval === undefined ? "no timestamps" : "timestamps",
    ];
    this.#options.add(words.join(", "));
    this.#windows.add(window);
    if (ttl !== undefined) this.#ttls.add(ttl);
  }
}
