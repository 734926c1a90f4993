import { TCP_CLOSE_WAIT, TCP_ESTABLISHED } from "../../native/abi/tcp.ts";
import { bindSource, localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import { deferHandshakeAck, getTcpInfo, setMark } from "../../native/sockopt.ts";
import type { Ending, Verdict } from "../../pool/entry-table.ts";
import type { Lease, LeaseRecord } from "../../pool/taker.ts";
import type { Source } from "./client-sources.ts";
import type { Driver } from "./driver.ts";
import { connectionHash, type OwnConnections } from "./own-connections.ts";
import type { Server } from "./upstream.ts";

const NONE = -1;

/** How connections of ours are told from those of others, where a listener is transparent. */
export interface Marking {
  /** SO_MARK of ordinary connections; those made of half-opens have it anyway. */
  readonly upstreamMark: number | undefined;
  readonly ownConnections: OwnConnections | undefined;
}

/** A session's socket towards a server: leased from the server's pool, or an ordinary one. Owns it until drop(). */
export class UpstreamSocket {
  readonly #marking: Marking;
  #fd = NONE;
  #server: Server | undefined;
  #source: Source | undefined;
  #lease: Lease | undefined;
  #noted: { readonly own: OwnConnections; readonly port: number; readonly hash: number } | undefined;

  constructor(marking: Marking) {
    this.#marking = marking;
  }

  get fd(): number {
    return this.#fd;
  }

  get isOpen(): boolean {
    return this.#fd !== NONE;
  }

  /** True when a connect has succeeded, whether or not its request says so. */
  get isEstablished(): boolean {
    const { state } = getTcpInfo(this.#fd);
    return state === TCP_ESTABLISHED || state === TCP_CLOSE_WAIT;
  }

  /** From now on it is about this server, and connections from `source`. */
  aim(server: Server | undefined, source: Source | undefined): void {
    this.#server = server;
    this.#source = source;
  }

  /** The round trip to the server as its pool knows it; 0 without one. */
  get rttMs(): number {
    return this.#source?.taker?.rttMs ?? 0;
  }

  /** An established socket from the pool. False: it has none ready, or there is no pool. */
  take(): boolean {
    this.#lease = this.#source?.taker?.take();
    if (!this.#lease) return false;
    this.#fd = this.#lease.fd;
    this.note();
    return true;
  }

  /** An unconnected socket; `hasData` will be sent as soon as it is connected. Throws SyscallError EMFILE. */
  open({ family }: Server, socketFlags: number, hasData: boolean): void {
    const fd = newTcpSocket(family, socketFlags);
    try {
      const source = this.#source?.address;
      if (source !== undefined) bindSource(fd.number, source);
      if (this.#marking.upstreamMark !== undefined) setMark(fd.number, this.#marking.upstreamMark);
      if (hasData) deferHandshakeAck(fd.number);
      this.#fd = fd.release();
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /** Notes a connection that is established, until drop(): whoever accepts it knows that it is ours. */
  note(): void {
    const { ownConnections: own } = this.#marking;
    if (own === undefined || this.#server === undefined) return;
    this.#noted = {
      own,
      port: localEndpoint(this.#fd).port,
      hash: connectionHash(this.#server.name, this.#source?.address),
    };
    own.add(this.#noted.port, this.#noted.hash);
  }

  /** Goes on with a socket that another session had, made of the half-open that `lease` tells of, if of one. */
  adopt(fd: number, lease: LeaseRecord | undefined): void {
    this.#fd = fd;
    this.#lease = lease && this.#source?.taker?.adopt(fd, lease);
  }

  /** Hands the socket over, the lease's entry with it. */
  release(): { readonly fd: number; readonly lease: LeaseRecord | undefined } {
    const handed = { fd: this.#fd, lease: this.#lease && this.#source?.taker?.record(this.#lease) };
    this.#fd = NONE;
    this.#lease = undefined;
    this.#forget();
    return handed;
  }

  /** Completes a leased socket's handshake by a raw ACK, so that a server which speaks first can. */
  acknowledge(): void {
    if (this.#lease) this.#source?.taker?.sendAck(this.#lease);
  }

  /** What RSTs the keeper heard prove. */
  verdict(): Verdict {
    return (this.#lease && this.#source?.taker?.verdict(this.#lease)) ?? "other";
  }

  reportFlight(acknowledged: boolean): void {
    this.#source?.taker?.reportFlight(acknowledged);
  }

  reportReplay(): void {
    this.#source?.taker?.reportReplay();
  }

  /** Closes the socket and ends the lease. `bytesSent` places a repeated RST when `ending` is "reset". */
  drop(driver: Driver, ending: Ending, bytesSent: number): void {
    this.#forget();
    if (this.#fd !== NONE) driver.close(this.#fd);
    this.#fd = NONE;
    if (this.#lease) this.#source?.taker?.finish(this.#lease, ending, bytesSent);
    this.#lease = undefined;
  }

  #forget(): void {
    this.#noted?.own.remove(this.#noted.port, this.#noted.hash);
    this.#noted = undefined;
  }
}
