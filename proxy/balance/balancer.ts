/**
 * The servers of one upstream as one thread uses them. All threads share what they know of a server (server-state.ts)
 * and the line for places (line.ts); turns are each thread's own.
 *
 * A session or a request goes through the same three steps, whatever its protocol:
 *
 *   choose() ──server──▶ connect ──┬─▶ reached() ──▶ … ──▶ release()
 *      │                           └─▶ failed() ───▶ release(), then choose() once more
 *      └─"full"──▶ line.stand(), line.serve() ──seek(): choose(tried, true)──▶ as above
 */
import type { Logger } from "../../pool/logger.ts";
import type { Line } from "./line.ts";
import { type Candidates, candidates, chooseBy, type Policy } from "./policies.ts";
import type { ServerState } from "./server-state.ts";

/** What balancing needs of a server. */
export interface BalancedServer {
  readonly name: string;
  readonly weight: number;
  /** 0: no limit. */
  readonly maxConnections: number;
  readonly state: ServerState;
}

export interface BalancerOptions<Server extends BalancedServer> {
  /** Of the upstream, for the log. */
  readonly name: string;
  readonly policy: Policy;
  readonly servers: readonly Server[];
  readonly line: Line;
  readonly log: Logger;
}

const NOTHING_TRIED: readonly never[] = [];

export class Balancer<Server extends BalancedServer> {
  readonly name: string;
  /** Where those wait for whom choose() said "full"; the same one after a reload. */
  readonly line: Line;
  readonly #policy: Policy;
  readonly #servers: readonly Server[];
  readonly #candidates: Candidates;
  readonly #log: Logger;
  /** All that remain are out, and none is left alone for that. */
  #isPanic = false;

  constructor({ name, policy, servers, line, log }: BalancerOptions<Server>) {
    this.name = name;
    this.line = line;
    this.#policy = policy;
    this.#servers = servers;
    this.#candidates = candidates(servers.map(({ weight }) => weight));
    this.#log = log;
  }

  get size(): number {
    return this.#servers.length;
  }

  named(name: string | undefined): Server | undefined {
    return this.#servers.find((server) => server.name === name);
  }

  /**
   * A server with a place taken for the caller, who owes reached() or failed() once it knows, and one release() when
   * the connection or request is over. Never one of `tried`.
   *
   * Servers that are out (ejected or unhealthy) are left alone, unless all that remain are: then they are as good
   * as any, since a server that may answer is better than a reset that is certain. "full": there are servers, but all have
   * their maxConnections, or others wait already; stand in line, and come back with `isFirst` when called. undefined: none
   * remains, or there never was one. `nowMs` as of nowMs(). Allocates nothing.
   */
  choose(
    nowMs: number,
    tried: readonly Server[] = NOTHING_TRIED,
    isFirst = false,
  ): Server | "full" | undefined {
    if (!isFirst && this.line.length > 0) return "full";
    const now = nowMs | 0;
    for (;;) {
      const remaining = this.#look(now, tried);
      if (remaining === 0) return undefined;
      const isRandom = this.#policy === "random";
      const index = chooseBy(
        this.#policy,
        this.#candidates,
        isRandom ? Math.random() : 0,
        isRandom ? Math.random() : 0,
      );
      const server = this.#servers[index];
      if (server === undefined) return "full";
      // Another thread may have been faster, with the place or with the trial: look again.
      if (!server.state.enter(server.maxConnections)) continue;
      if (this.#isPanic || server.state.claimTrial(now)) return server;
      this.release(server);
    }
  }

  /** A place for a session that comes with its connection to this server: it counts, whatever the limit. */
  admit(server: Server): void {
    server.state.admit();
  }

  /** The server accepted the connection, or spoke on one made of a half-open. */
  reached({ name, state }: Server): void {
    if (!state.onReached()) return;
    this.#log.info({ upstream: this.name, server: name }, "server used again: it accepts connections");
    this.line.callAll();
  }

  /** Refused, not answered in time, or a first flight that nobody acknowledged: not what is ours or the client's fault. */
  failed({ name, state }: Server, nowMs: number): void {
    if (!state.onFailed(nowMs | 0)) return;
    this.#log.warn({ upstream: this.name, server: name }, "server avoided: connects fail");
  }

  /** Gives the place back, which choose() or admit() took. */
  release({ state }: Server): void {
    state.leave();
    this.line.call();
  }

  /** Fills in the candidates and says how many remain to be tried, with or without a place. */
  #look(now: number, tried: readonly Server[]): number {
    const { mayServe, active } = this.#candidates;
    let remaining = 0;
    let used = 0;
    for (let index = 0; index < this.#servers.length; index++) {
      const server = this.#servers[index]!;
      mayServe[index] = 0;
      if (tried.length > 0 && tried.includes(server)) continue;
      remaining += 1;
      if (server.state.usability(now) === "out") continue;
      used += 1;
      mayServe[index] = 1;
    }
    this.#isPanic = used === 0;
    for (let index = 0; index < this.#servers.length; index++) {
      const server = this.#servers[index]!;
      if (this.#isPanic && !tried.includes(server)) mayServe[index] = 1;
      active[index] = server.state.active;
      const { maxConnections } = server;
      if (maxConnections > 0 && active[index]! >= maxConnections) mayServe[index] = 0;
    }
    return remaining;
  }
}
