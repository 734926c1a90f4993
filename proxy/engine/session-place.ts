/** A session's place at a server of its upstream, or in the line for one. */
import type { Line, Waiter } from "../balance/line.ts";
import type { Source } from "./client-sources.ts";
import type { ListenerState } from "./engine.ts";
import type { Relay } from "./relay.ts";
import type { ChoosingClient, Server } from "./upstream.ts";

/** What a place tells its session. A reload may give the listener another upstream at any time. */
export interface PlaceOwner {
  readonly listener: ListenerState;
  /** It has a place there; undefined: no server is left to try, the line is too long, or no name resolves. */
  onServer(server: Server | undefined, nowMs: number): void;
  /** It stands in line; onServer() follows, unless it leaves. */
  onQueued(nowMs: number): void;
}

export class SessionPlace implements Waiter, ChoosingClient {
  readonly #owner: PlaceOwner;
  readonly #relay: Pick<Relay, "client">;
  readonly #tried: Server[] = [];
  #server: Server | undefined;
  #source: Source | undefined;
  #line: Line | undefined;

  constructor(owner: PlaceOwner, relay: Pick<Relay, "client">) {
    this.#owner = owner;
    this.#relay = relay;
  }

  get socket(): number {
    return this.#relay.client;
  }

  get listener(): ListenerState {
    return this.#owner.listener;
  }

  /** Where the session is; undefined before it was somewhere, and after leave(). */
  get server(): Server | undefined {
    return this.#server;
  }

  /** Whom the session comes from there. */
  get source(): Source | undefined {
    return this.#source;
  }

  begin(): void {
    this.#tried.length = 0;
  }

  /** Comes with its connection to the server of this name, if the upstream still has it. */
  adopt(name: string | undefined): void {
    const { upstream } = this.#owner.listener;
    this.begin();
    this.#server = upstream.named(name);
    this.#source = this.#server && upstream.source(this.#server, this.socket, true);
    if (this.#server) upstream.admit(this.#server);
  }

  /** Looks for a server that has room; stands in line for one when all are full. */
  find(nowMs: number): void {
    const { upstream } = this.#owner.listener;
    const server = this.#choose(nowMs, false);
    if (server === "full" && upstream.line.stand(this, upstream.maxQueue)) {
      this.#line = upstream.line;
      this.#tried.length = 0; // any server will do
      this.#owner.onQueued(nowMs);
      upstream.line.serve(nowMs);
    } else {
      this.#take(server === "full" ? undefined : server, nowMs);
    }
  }

  seek(nowMs: number): boolean {
    const server = this.#choose(nowMs, true);
    if (server === "full") return false;
    this.#line = undefined;
    this.#take(server, nowMs);
    return true;
  }

  leaveLine(): void {
    this.#line?.leave(this);
    this.#line = undefined;
  }

  reached(): void {
    if (this.#server) this.#owner.listener.upstream.reached(this.#server);
  }

  failed(nowMs: number): void {
    if (this.#server) this.#owner.listener.upstream.failed(this.#server, nowMs);
  }

  /** Gives the place back, and does not come here again. */
  leaveForGood(): void {
    if (this.#server) this.#tried.push(this.#server);
    this.leave();
  }

  leave(): void {
    if (this.#server) this.#owner.listener.upstream.release(this.#server);
    this.#server = undefined;
  }

  /** As the upstream chooses, but only where this client can be. */
  #choose(nowMs: number, isFirst: boolean): Server | "full" | undefined {
    const { upstream } = this.#owner.listener;
    for (;;) {
      const server = upstream.choose(nowMs, this.#tried, isFirst, this);
      if (server === undefined || server === "full") return server;
      this.#source = upstream.source(server, this.socket);
      if (this.#source !== undefined) return server;
      upstream.release(server);
      this.#tried.push(server);
    }
  }

  #take(server: Server | undefined, nowMs: number): void {
    this.#server = server;
    this.#owner.onServer(server, nowMs);
  }
}
