/**
 * Accepts the clients of one http listener on one thread, as far as the gates have room: the listener's maxConnections,
 * then the process's descriptors.
 *
 *   accepting ──client──▶ at gate 0 ──▶ at gate 1 ──▶ onClient(), accepting
 *                           └ full: nothing is accepted until a connection of any worker ends, redeem() ┘
 *
 * To accept nothing our duplicate of the listening socket is closed: others stay open, and clients wait in its backlog.
 */
import { createServer, type Server, Socket } from "node:net";
import { Fd } from "../../native/fd.ts";
import { acceptWaiting } from "../../native/net/tcp-socket.ts";
import type { Gate } from "../../pool/gate.ts";
import { BACKLOG } from "../engine/limits.ts";

const KEEP_ALIVE_AFTER = 60_000;

export interface AcceptorOptions {
  /** The listening socket; stays the caller's. */
  readonly fd: number;
  readonly gates: readonly [Gate, Gate];
  /** A client that passed both gates, paused; they are left when its socket closes. */
  readonly onClient: (socket: Socket) => void;
  readonly onError: (error: Error) => void;
}

export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #listening: Fd;
  #server: Server | undefined;
  /** Accepted and not yet through. */
  #client: Socket | undefined;
  #at: 0 | 1 = 0;
  #isClosed = false;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#listening = Fd.duplicate(options.fd);
    this.#accept();
  }

  /** Somebody waits at a gate. */
  get isBlocked(): boolean {
    return this.#client !== undefined;
  }

  /** Somebody woke this thread: perhaps there is room for who waits. */
  redeem(): void {
    const { gates } = this.#options;
    if (this.#client !== undefined && gates[this.#at].redeem()) this.#passed();
  }

  /**
   * Accepts nobody any more. Who waits at a gate is served when there is room, with `isLast` those in the backlog too as
   * far as there is: they were told that they are connected.
   */
  close(isLast: boolean): void {
    this.#isClosed = true;
    this.#stop();
    while (isLast && this.#client === undefined) {
      const client = acceptWaiting(this.#listening.number);
      if (client === undefined) break;
      const socket = new Socket({ fd: client, allowHalfOpen: true });
      socket.pause().setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_AFTER);
      this.#onAccepted(socket);
    }
    this.#listening.close();
  }

  /** Turns away who waits at a gate. */
  turnAway(): void {
    const client = this.#client;
    if (client === undefined) return;
    const { gates } = this.#options;
    if (!gates[this.#at].abandon()) gates[this.#at].leave();
    if (this.#at === 1) gates[0].leave();
    this.#client = undefined;
    client.destroy();
  }

  #accept(): void {
    const options = { allowHalfOpen: true, pauseOnConnect: true, noDelay: true };
    const server = createServer({ ...options, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_AFTER });
    server.on("connection", (socket) => this.#onAccepted(socket));
    server.on("error", this.#options.onError);
    server.listen({ fd: this.#listening.duplicate().release(), backlog: BACKLOG });
    this.#server = server;
  }

  #stop(): void {
    this.#server?.close();
    this.#server = undefined;
  }

  #onAccepted(socket: Socket): void {
    this.#client = socket;
    this.#at = 0;
    this.#pass();
  }

  #pass(): void {
    if (this.#options.gates[this.#at].enter()) this.#passed();
    else this.#stop();
  }

  #passed(): void {
    if (this.#at === 0) {
      this.#at = 1;
      this.#pass();
      return;
    }
    const socket = this.#client!;
    this.#client = undefined;
    if (this.#server === undefined && !this.#isClosed) this.#accept();
    socket.once("close", () => {
      const { gates } = this.#options;
      gates[1].leave();
      gates[0].leave();
    });
    this.#options.onClient(socket);
  }
}
