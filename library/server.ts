/** A server whose half-opens are kept, as this thread uses it. */
import { formatEndpoint } from "../native/address.ts";
import { Fd } from "../native/fd.ts";
import type { Ending } from "../pool/entry-table.ts";
import { SYNACK_TIMEOUT } from "../pool/limits.ts";
import type { Lease, Taker } from "../pool/taker.ts";
import { LeasedSocket } from "./leased-socket.ts";

/** A pool in numbers; counts are since it was started. */
export interface PoolStats {
  /** Address and port, e.g. "10.0.0.7:8080". */
  readonly server: string;
  readonly halfOpen: number;
  /** Half-opens that may be taken now, and how many there should be. */
  readonly ready: number;
  readonly target: number;
  /** Smoothed round-trip time; 0 before the first answer. */
  readonly rttMs: number;
  /** Sockets made of half-opens, and connections that wanted one when none was ready. */
  readonly hits: number;
  readonly misses: number;
  /** Hits that the server had forgotten. */
  readonly replays: number;
}

export class Server {
  readonly name: string;
  readonly taker: Taker;
  /** Pools and connectors that keep it. */
  holders = 0;
  readonly #onLeases: (change: 1 | -1) => void;
  #distrustedUntilMs = 0;

  /** `onLeases` is told of each socket made, and of its end. */
  constructor(taker: Taker, onLeases: (change: 1 | -1) => void) {
    this.name = formatEndpoint(taker.share.server);
    this.taker = taker;
    this.#onLeases = onLeases;
  }

  /** Something may be ready: worth the asking. */
  get isReady(): boolean {
    return this.taker.block.get("ready") > 0 && performance.now() >= this.#distrustedUntilMs;
  }

  /** The pool was filled once, or its server found unreachable. */
  get isSettled(): boolean {
    return this.taker.block.get("settled") === 1;
  }

  get stats(): PoolStats {
    const { block } = this.taker;
    return {
      server: this.name,
      halfOpen: block.get("halfOpen"),
      ready: block.get("ready"),
      target: block.get("target"),
      rttMs: block.get("rttUs") / 1e3,
      hits: block.get("hits"),
      misses: block.get("misses"),
      replays: block.get("replays"),
    };
  }

  /**
   * An established socket, or undefined: connect in the ordinary way. See LeasedSocket for `silenceMaxMs`. Whatever is
   * written to it first must be provable to have arrived, since nobody says here that it may be repeated.
   */
  take(silenceMaxMs: number): LeasedSocket | undefined {
    if (performance.now() < this.#distrustedUntilMs) return undefined;
    const lease = this.taker.take(true);
    if (lease === undefined) return undefined;
    this.#onLeases(1);
    try {
      return new LeasedSocket(this, lease, silenceMaxMs);
    } catch (error) {
      new Fd(lease.fd).close();
      this.finish(lease, "active");
      throw error;
    }
  }

  /** The socket of a lease is closed. */
  finish(lease: Lease, ending: Ending): void {
    this.taker.finish(lease, ending);
    this.#onLeases(-1);
  }

  /**
   * It forgot a half-open, so it may have forgotten all. For a second it gets ordinary connections: what may be leased
   * after that was confirmed by a SYN-ACK of less than a second ago, one later than what we know now.
   */
  distrust(): void {
    this.taker.reportReplay();
    this.#distrustedUntilMs = performance.now() + SYNACK_TIMEOUT;
  }
}
