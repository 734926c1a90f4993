import { TCP_CLOSE_WAIT, TCP_ESTABLISHED } from "../../native/abi/tcp.ts";
import { localEndpoint, newTcpSocket } from "../../native/net/tcp-socket.ts";
import { deferHandshakeAck, getTcpInfo, setMark } from "../../native/sockopt.ts";
import type { Ending, Verdict } from "../../pool/entry-table.ts";
import type { Lease, LeaseRecord } from "../../pool/taker.ts";
import type { Driver } from "./driver.ts";
import { destinationHash, type OwnConnections } from "./own-connections.ts";
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

  /** An established socket from the server's pool. False: it has none ready, or no pool. */
  take(server: Server): boolean {
    this.#server = server;
    this.#lease = server.taker?.take();
    if (!this.#lease) return false;
    this.#fd = this.#lease.fd;
    this.note();
    return true;
  }

  /** An unconnected socket; `hasData` will be sent as soon as it is connected. Throws SyscallError EMFILE. */
  open(server: Server, socketFlags: number, hasData: boolean): void {
    this.#server = server;
    const fd = newTcpSocket(server.family, socketFlags);
    if (this.#marking.upstreamMark !== undefined) setMark(fd.number, this.#marking.upstreamMark);
    if (hasData) deferHandshakeAck(fd.number);
    this.#fd = fd.release();
  }

  /** Notes a connection that is established, until drop(): whoever accepts it knows that it is ours. */
  note(): void {
    const { ownConnections: own } = this.#marking;
    if (own === undefined || this.#server === undefined) return;
    this.#noted = { own, port: localEndpoint(this.#fd).port, hash: destinationHash(this.#server.name) };
    own.add(this.#noted.port, this.#noted.hash);
  }

  /** Goes on with a socket that another session had, made of the half-open that `lease` tells of, if of one. */
  adopt(server: Server | undefined, fd: number, lease: LeaseRecord | undefined): void {
    this.#server = server;
    this.#fd = fd;
    this.#lease = lease && server?.taker?.adopt(fd, lease);
  }

  /** Hands the socket over, the lease's entry with it. */
  release(): { readonly fd: number; readonly lease: LeaseRecord | undefined } {
    const handed = { fd: this.#fd, lease: this.#lease && this.#server?.taker?.record(this.#lease) };
    this.#fd = NONE;
    this.#lease = undefined;
    this.#forget();
    return handed;
  }

  /** Completes a leased socket's handshake by a raw ACK, so that a server which speaks first can. */
  acknowledge(): void {
    if (this.#lease) this.#server?.taker?.sendAck(this.#lease);
  }

  /** What RSTs the keeper heard prove. */
  verdict(): Verdict {
    return (this.#lease && this.#server?.taker?.verdict(this.#lease)) ?? "other";
  }

  reportFlight(acknowledged: boolean): void {
    this.#server?.taker?.reportFlight(acknowledged);
  }

  reportReplay(): void {
    this.#server?.taker?.reportReplay();
  }

  /** Closes the socket and ends the lease. `bytesSent` places a repeated RST when `ending` is "reset". */
  drop(driver: Driver, ending: Ending, bytesSent: number): void {
    this.#forget();
    if (this.#fd !== NONE) driver.close(this.#fd);
    this.#fd = NONE;
    if (this.#lease) this.#server?.taker?.finish(this.#lease, ending, bytesSent);
    this.#lease = undefined;
  }

  #forget(): void {
    this.#noted?.own.remove(this.#noted.port, this.#noted.hash);
    this.#noted = undefined;
  }
}
