/**
 * The host that sessions come to. It listens for one move, builds the sockets while their addresses are still at the other
 * host, and goes on when the other has closed its own and the addresses have come.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { Logger } from "pino";
import type { NftGuard } from "../../native/guard/guard.ts";
import { announce } from "../../native/net/announce.ts";
import type { KeeperRecord } from "../../pool/handover.ts";
import { Seldom } from "../../pool/seldom.ts";
import { openGuard } from "../checkpoint/checkpoint.ts";
import type { SessionImage } from "../checkpoint/images/image-schema.ts";
import { GUARD_LIFETIME_S } from "../checkpoint/limits.ts";
import { addressesOf, canStageAway, isLocal, ReturningSessions } from "../checkpoint/returning.ts";
import { listenError } from "../errors.ts";
import type { Estate, Heritage } from "../upgrade/estate.ts";
import { p99 } from "../upgrade/pauses.ts";
import { version } from "../version.ts";
import * as limits from "./limits.ts";
import { MoveError, MoveLink, tlsOptions } from "./link.ts";
import { PROTOCOL_VERSION } from "./messages.ts";
import { rehearse } from "./rehearsal.ts";

export interface TargetOptions {
  readonly host: string;
  readonly port: number;
  /** Where the two files of `accelproxy keys` are. */
  readonly keys: string;
  readonly log: Logger;
}

/** What has been staged. `late` are those that need their addresses first. */
interface Staged {
  readonly returning: ReturningSessions;
  readonly late: readonly SessionImage[];
  readonly addresses: readonly Uint8Array[];
  /** How long the sessions have stood still by now, but for the way that the last message took. */
  readonly stoodMs: () => number;
}

export class MoveTarget implements Heritage {
  readonly isAhead = true;
  readonly secret = undefined;
  readonly #log: Logger;
  readonly #server: Server;
  readonly #guard: NftGuard = openGuard();
  #staged: Staged | undefined;

  private constructor(server: Server, log: Logger) {
    this.#server = server;
    this.#log = log;
  }

  /** Listens for the other host. Rejects with StartError as listenError() says, MoveError without keys. */
  static async listen({ host, port, keys, log }: TargetOptions): Promise<MoveTarget> {
    const server = createServer({ ...tlsOptions(keys), requestCert: true, rejectUnauthorized: true });
    server.maxConnections = 1;
    const strangers = new Seldom(limits.STRANGER_WARNING_INTERVAL);
    server.on("tlsClientError", (err) => {
      const unsaid = strangers.due(performance.now());
      if (unsaid !== undefined) log.warn({ err, unsaid }, "somebody without our certificate is turned away");
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => reject(listenError("--receive", `${host}:${port}`, error)));
      server.listen({ host, port }, resolve);
    });
    log.info({ address: `${host}:${port}` }, "waiting for sessions");
    return new MoveTarget(server, log);
  }

  takeSockets(): undefined {
    return undefined;
  }

  /** Resolves when the sessions are this host's and their addresses have come. Rejects with MoveError when they do not. */
  async ready(): Promise<KeeperRecord> {
    while (this.#staged === undefined) {
      const link = new MoveLink(await this.#caller());
      try {
        this.#staged = await this.#receive(link);
      } catch (error) {
        if (!(error instanceof MoveError)) throw error;
        this.#log.warn({ reason: error.message }, "no sessions came, waiting for others");
      } finally {
        link.close();
      }
    }
    this.#server.close();
    await this.#arrival(this.#staged);
    return { ports: [], pools: [] };
  }

  async takeOver(estate: Estate): Promise<void> {
    const { returning, late, addresses, stoodMs } = this.#staged!;
    returning.arrive();
    returning.stage(late);
    const announced = announce(addresses);
    const pausesMs: number[] = [];
    const result = returning.goOn((sessions) => {
      estate.adopt(sessions);
      for (const _ of sessions) pausesMs.push(stoodMs());
    }, stoodMs);
    this.#guard.close();
    this.#log.info({ ...result, announced, pauseMs: p99(pausesMs) }, "sessions moved here");
  }

  #caller(): Promise<TLSSocket> {
    return new Promise((resolve) => this.#server.once("secureConnection", resolve));
  }

  async #receive(link: MoveLink): Promise<Staged> {
    const { program, version: theirs } = await link.receive(limits.ANSWER_LIMIT, "hello");
    if (theirs !== PROTOCOL_VERSION) {
      await link.send({ kind: "refused", why: `it speaks version ${PROTOCOL_VERSION}, not ${theirs}` });
      throw new MoveError(`accelproxy ${program} speaks version ${theirs}, not ${PROTOCOL_VERSION}`);
    }
    const returning = new ReturningSessions(this.#guard, this.#log, GUARD_LIFETIME_S);
    try {
      await rehearse(this.#guard, this.#log);
      await link.send({ kind: "ready", program: version });
      const sessions = await this.#stage(link, returning);
      await link.send({ kind: "staged" });
      const gone = await link.receive(limits.ANSWER_LIMIT, "gone");
      const heardMs = performance.now();
      const stoodMs = (): number => gone.stoodMs + performance.now() - heardMs;
      const late = sessions.filter((session) => !canStageAway(session));
      return { returning, late, addresses: addressesOf(sessions), stoodMs };
    } catch (error) {
      returning.giveUp(true);
      if (error instanceof MoveError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      await link.send({ kind: "refused", why });
      throw new MoveError(why, { cause: error });
    }
  }

  /** All sessions that come, the sockets of those built that can be. */
  async #stage(link: MoveLink, returning: ReturningSessions): Promise<SessionImage[]> {
    const sessions: SessionImage[] = [];
    for (;;) {
      const message = await link.receive(limits.ANSWER_LIMIT, "sessions", "all");
      if (message.kind === "all") {
        if (message.sessions === sessions.length) return sessions;
        throw new MoveError(`${sessions.length} sessions came of ${message.sessions}`);
      }
      sessions.push(...message.images);
      returning.stage(message.images.filter(canStageAway), true);
      const [refusal] = returning.refusals;
      if (refusal !== undefined) throw new Error(refusal);
    }
  }

  /** Whoever moves addresses does it now (keepalived, say). */
  async #arrival({ returning, addresses }: Staged): Promise<void> {
    const deadlineMs = performance.now() + limits.ARRIVAL_LIMIT;
    this.#log.info("all sessions are here, waiting for their addresses");
    while (!addresses.every(isLocal)) {
      if (performance.now() > deadlineMs) {
        returning.giveUp(true);
        throw new MoveError("the addresses of the sessions did not come to this host: they are lost");
      }
      await sleep(limits.ARRIVAL_POLL);
    }
  }
}
