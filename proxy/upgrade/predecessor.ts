/**
 * The side of an upgrade that goes: starts the next process and gives it everything, step by step (messages.ts). Until
 * it gave away the last session this process can go on: what it has is asked of its Estate, and goes back there.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { SCM_MAX_FD } from "../../native/abi/socket.ts";
import { nowMs } from "../../native/clock.ts";
import { Fd } from "../../native/fd.ts";
import { rightsPair } from "../../native/net/unix-rights.ts";
import { setLingerZero } from "../../native/sockopt.ts";
import type { KeeperRecord } from "../../pool/handover.ts";
import { INHERITED, type PoolCounts } from "../../pool/pool-block.ts";
import type { MovingSession } from "../engine/session-record.ts";
import { formatPassed, OURS } from "../passed.ts";
import { version } from "../version.ts";
import { Channel, ChannelError } from "./channel.ts";
import type { Estate } from "./estate.ts";
import * as limits from "./limits.ts";
import type { Message, MessageOf } from "./messages.ts";
import { rehearse } from "./rehearsal.ts";

/** How to start this program as it is on disk now. */
export interface Command {
  readonly program: string;
  /** What the program runs, one of `args`. */
  readonly script: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The variable that names the descriptor of the channel to it. */
  readonly channel: string;
}

/** Where the next process finds it, and behind it what it is passed. */
const CHANNEL_AT = 3;

export interface UpgradeOptions {
  readonly command: Command;
  readonly estate: Estate;
  readonly log: Logger;
  /** Descriptors that the next process gets as it starts, by name (../passed.ts). */
  readonly passed: readonly (readonly [fd: number, name: string])[];
  /** Everything is given away but what only one process can have (the admin socket): lets it go. */
  readonly letGo: () => Promise<void>;
}

/** Gives everything to a new process. Resolves with it, or with undefined when this one goes on. */
export async function upgrade(options: UpgradeOptions): Promise<ChildProcess | undefined> {
  const [near, far] = rightsPair();
  const child = start(options, far);
  far.close();
  const predecessor = new Predecessor(options, new Channel(near), child);
  try {
    await predecessor.giveAll();
    return child;
  } catch (error) {
    if (!(error instanceof ChannelError)) throw error;
    await predecessor.goOn(error);
    return undefined;
  }
}

function start({ command: { program, args, env, channel }, passed }: UpgradeOptions, far: Fd): ChildProcess {
  const stdio = [0, 1, 2, far.number, ...passed.map(([fd]) => fd)];
  const named = passed.map(([, name], index) => [CHANNEL_AT + 1 + index, name] as const);
  const variables = { [channel]: String(CHANNEL_AT), [OURS]: formatPassed(named) };
  return spawn(program, args, { env: { ...env, ...variables }, stdio });
}

class Predecessor {
  readonly #options: UpgradeOptions;
  readonly #channel: Channel;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #hasStopped = false;
  #hasHalfOpens = true;
  /** Sent and not yet adopted: whether the other has begun with them is not known. */
  #sent: readonly MovingSession[] = [];
  readonly #leases: number[] = [];

  constructor(options: UpgradeOptions, channel: Channel, child: ChildProcess) {
    this.#options = options;
    this.#channel = channel;
    this.#child = child;
    this.#ended = Promise.race([once(child, "exit"), once(child, "error")]).catch(() => undefined);
  }

  async giveAll(): Promise<void> {
    const { estate, letGo, log } = this.#options;
    await this.#offer();
    rehearse();
    await this.#expect("ready", limits.PREPARE_LIMIT_MS);
    this.#hasStopped = true;
    await estate.stopAccepting();
    this.#hasHalfOpens = false;
    await this.#giveHalfOpens(await (estate.keeper?.handOver() ?? { ports: [], pools: [] }));
    await this.#say({ kind: "go" });
    await this.#expect("started");
    const sessions = await this.#giveSessions();
    // All is given: whatever becomes of the other, there is nothing to go on with.
    await letGo();
    await this.#end().catch((err: unknown) => log.warn({ err }, "the new process did not answer at the end"));
    this.#channel.close();
    log.info({ sessions, pid: this.#child.pid }, "upgraded: a new process has everything");
  }

  async #end(): Promise<void> {
    const { estate } = this.#options;
    const pools = estate.pools.map(({ upstream, share: { server }, block }) => ({
      upstream,
      server,
      counts: Object.fromEntries(INHERITED.map((field) => [field, block.get(field)])) as PoolCounts,
    }));
    await this.#say({ kind: "done", traffic: estate.traffic.totals(), pools } as MessageOf<"done">);
    await this.#expect("finished");
  }
  /** The other failed: nothing of it must be left, then this process has again what it had not given away. */
  async goOn(error: ChannelError): Promise<void> {
    const { estate, log } = this.#options;
    this.#channel.close();
    this.#child.kill("SIGKILL");
    await this.#ended;
    for (const { sockets } of this.#sent) reset(sockets);
    if (!this.#hasHalfOpens) {
      estate.keeper?.takeBack();
      estate.keeper?.settle({ endedLeases: this.#leases, counts: [] });
    }
    if (this.#hasStopped) await estate.acceptAgain();
    const code = this.#child.exitCode;
    log.error(
      { err: error, code, lost: this.#sent.length },
      "not upgraded: the new process failed, this one goes on",
    );
  }

  async #offer(): Promise<void> {
    const { listeners, keeper } = this.#options.estate;
    const secret = keeper && { secret: Uint8Array.from(keeper.secret) };
    await this.#say({ kind: "hello", program: version, listeners: listeners.length, ...secret });
    for (const { name, bind, sockets } of listeners)
      await this.#say({ kind: "listener", name, bind }, sockets);
  }

  async #giveHalfOpens({ ports, pools }: KeeperRecord): Promise<void> {
    for (let at = 0; at < ports.length; at += SCM_MAX_FD) {
      const part = ports.slice(at, at + SCM_MAX_FD);
      const numbers = part.map(({ number }) => number);
      await this.#say(
        { kind: "ports", numbers },
        part.map(({ fd }) => fd),
      );
    }
    for (const { entries, ...pool } of pools) {
      for (let at = 0; at === 0 || at < entries.length; at += limits.ENTRIES_MAX) {
        const part = entries.slice(at, at + limits.ENTRIES_MAX);
        await this.#say({ kind: "pool", ...pool, entries: part } as MessageOf<"pool">);
      }
    }
  }

  /** A batch at a time, the next when the last was adopted, so that nobody waits for long. */
  async #giveSessions(): Promise<number> {
    const { estate } = this.#options;
    const deadlineMs = performance.now() + limits.FINISH_LIMIT_MS;
    let given = 0;
    for (;;) {
      const sinceMs = nowMs();
      const { sessions, left } = await estate.depart(limits.BATCH);
      if (sessions.length > 0) {
        given += sessions.length;
        await this.#giveBatch(sessions, sinceMs);
      } else if (left === 0 || performance.now() > deadlineMs) {
        return given;
      } else {
        await sleep(limits.RETRY_MS);
      }
    }
  }

  async #giveBatch(sessions: readonly MovingSession[], sinceMs: number): Promise<void> {
    const descriptors = sessions.flatMap(({ sockets: { client, upstream } }) =>
      upstream === undefined ? [client] : [client, upstream],
    );
    const records = sessions.map(({ record }) => record);
    try {
      await this.#say({ kind: "sessions", sinceMs, records }, descriptors);
    } catch (error) {
      this.#options.estate.adopt(sessions); // half a message is none: they go on here
      throw error;
    }
    this.#sent = sessions;
    for (const { record } of sessions) if (record.lease) this.#leases.push(record.lease.entry);
    await this.#expect("adopted");
    this.#sent = [];
    for (const number of descriptors) new Fd(number).close();
  }

  #say(message: Message, descriptors: readonly number[] = []): Promise<void> {
    return this.#channel.send(message, descriptors, limits.ANSWER_LIMIT_MS);
  }

  async #expect(kind: Message["kind"], limitMs: number = limits.ANSWER_LIMIT_MS): Promise<void> {
    const { message } = await this.#channel.receive(limitMs);
    if (message.kind !== kind) throw new ChannelError(`${message.kind} where ${kind} should be`);
  }
}

/** Whether anything of it was passed on is not known: both sides are told that it is over. */
function reset({ client, upstream }: MovingSession["sockets"]): void {
  for (const number of upstream === undefined ? [client] : [client, upstream]) {
    setLingerZero(number);
    new Fd(number).close();
  }
}
