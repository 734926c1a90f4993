import { newTcpSocket } from "../../native/net/tcp-socket.ts";
import type { Ending, Verdict } from "../../pool/entry-table.ts";
import type { Lease } from "../../pool/taker.ts";
import type { Driver } from "./driver.ts";
import type { Server } from "./upstream.ts";

const NONE = -1;

/** A session's socket towards a server: leased from the server's pool, or an ordinary one. Owns it until drop(). */
export class UpstreamSocket {
  #fd = NONE;
  #server: Server | undefined;
  #lease: Lease | undefined;

  get fd(): number {
    return this.#fd;
  }

  get isOpen(): boolean {
    return this.#fd !== NONE;
  }

  get serverName(): string | undefined {
    return this.#server?.name;
  }

  /** An established socket from the server's pool. False: it has none ready, or no pool. */
  take(server: Server): boolean {
    this.#server = server;
    this.#lease = server.taker?.take();
    if (!this.#lease) return false;
    this.#fd = this.#lease.fd;
    return true;
  }

  /** An unconnected socket. Throws SyscallError EMFILE. */
  open(server: Server, socketFlags: number): void {
    this.#server = server;
    this.#fd = newTcpSocket(server.family, socketFlags).release();
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
    if (this.#fd !== NONE) driver.close(this.#fd);
    this.#fd = NONE;
    if (this.#lease) this.#server?.taker?.finish(this.#lease, ending, bytesSent);
    this.#lease = undefined;
  }
}
