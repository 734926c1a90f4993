/** The side of an upgrade that comes: takes what the process before it gives, step by step (messages.ts). */
import type { Listener } from "../../config/schema.ts";
import { nowMs } from "../../native/clock.ts";
import { Fd } from "../../native/fd.ts";
import type { KeeperRecord, PoolRecord } from "../../pool/handover.ts";
import type { Logger } from "../../pool/logger.ts";
import type { MovingSession, SessionRecord } from "../engine/session-record.ts";
import { Channel, ChannelError, type Incoming } from "./channel.ts";
import type { Estate, Heritage } from "./estate.ts";
import { ANSWER_LIMIT_MS, FINISH_LIMIT_MS } from "./limits.ts";
import type { Message, MessageOf } from "./messages.ts";
import { p99 } from "./pauses.ts";
import { rehearse } from "./rehearsal.ts";

interface InheritedListener {
  readonly name: string;
  readonly bind: { readonly address: string; readonly port: number };
  readonly sockets: readonly Fd[];
}

export class Successor implements Heritage {
  readonly isAhead = false;
  readonly secret: Uint8Array | undefined;
  readonly #channel: Channel;
  readonly #log: Logger;
  readonly #listeners: InheritedListener[];
  /** Entries that came leased, and whose sessions have not come. */
  readonly #expected = new Set<number>();

  private constructor(
    channel: Channel,
    log: Logger,
    secret: Uint8Array | undefined,
    listeners: InheritedListener[],
  ) {
    this.#channel = channel;
    this.#log = log;
    this.secret = secret;
    this.#listeners = listeners;
  }

  /** Hears what there is. `fd` is the channel, which it owns from now on. Rejects with ChannelError. */
  static async begin(fd: number, log: Logger): Promise<Successor> {
    const channel = new Channel(new Fd(fd));
    const hello = await expect(channel, "hello");
    const listeners: InheritedListener[] = [];
    while (listeners.length < hello.message.listeners) {
      const { message, descriptors } = await expect(channel, "listener");
      if (descriptors.length === 0) throw new ChannelError("a listener without sockets");
      listeners.push({ name: message.name, bind: message.bind, sockets: descriptors });
    }
    log.info({ from: hello.message.program }, "taking over from a running proxy");
    return new Successor(channel, log, hello.message.secret, listeners);
  }

  /** By address; where the system chose the port, by name too. */
  takeSockets({ name, bind }: Listener): readonly Fd[] | undefined {
    const at = this.#listeners.findIndex(
      (listener) =>
        listener.bind.address === bind.host &&
        listener.bind.port === bind.port &&
        (bind.port !== 0 || listener.name === name),
    );
    return at < 0 ? undefined : this.#listeners.splice(at, 1)[0]!.sockets;
  }

  async ready(): Promise<KeeperRecord> {
    rehearse();
    await this.#say({ kind: "ready" });
    const ports: { number: number; fd: number }[] = [];
    const pools: PoolRecord[] = [];
    for (;;) {
      const { message, descriptors } = await this.#channel.receive(ANSWER_LIMIT_MS);
      if (message.kind === "go") break;
      if (message.kind === "ports" && message.numbers.length === descriptors.length) {
        for (const [index, number] of message.numbers.entries()) {
          ports.push({ number, fd: descriptors[index]!.release() });
        }
      } else if (message.kind === "pool") {
        pools.push(message);
      } else {
        throw new ChannelError(`${message.kind} where half-opens or go should be`);
      }
    }
    // The configuration has no such listener any more: who waits in its backlog is turned away.
    for (const { sockets } of this.#listeners.splice(0)) for (const fd of sockets) fd.close();
    for (const { entries } of pools) {
      for (const { state, index } of entries) if (state === "leased") this.#expected.add(index);
    }
    return { ports, pools };
  }

  /** This process accepts: takes the sessions of the other until it has none. What came stays, whatever happens. */
  async takeOver(estate: Estate): Promise<void> {
    const pausesMs: number[] = [];
    try {
      await this.#say({ kind: "started" });
      for (;;) {
        const incoming = await this.#channel.receive(FINISH_LIMIT_MS);
        if (incoming.message.kind === "done") {
          this.#settle(estate, incoming.message);
          await this.#say({ kind: "finished" });
          break;
        }
        const moving = sessionsOf(incoming);
        for (const { record } of moving) if (record.lease) this.#expected.delete(record.lease.entry);
        estate.adopt(moving);
        const pauseMs = nowMs() - sinceOf(incoming);
        for (const _ of moving) pausesMs.push(pauseMs);
        await this.#say({ kind: "adopted" });
      }
      this.#log.info({ sessions: pausesMs.length, pauseMs: p99(pausesMs) }, "took over");
    } catch (error) {
      if (!(error instanceof ChannelError)) throw error;
      this.#log.warn(
        { err: error, sessions: pausesMs.length },
        "the proxy before this one ended early, going on with what came",
      );
    } finally {
      this.#channel.close();
    }
  }

  #settle(estate: Estate, { traffic, pools }: MessageOf<"done">): void {
    estate.traffic.inherit(traffic);
    estate.keeper?.settle({ endedLeases: [...this.#expected], counts: pools });
  }

  #say(message: Message): Promise<void> {
    return this.#channel.send(message, [], ANSWER_LIMIT_MS);
  }
}

/** Has the state an upstream socket? */
export function hasUpstream({ state }: SessionRecord): boolean {
  return state === "unproven" || state === "open";
}

function sessionsOf({ message, descriptors }: Incoming): readonly MovingSession[] {
  if (message.kind !== "sessions") throw new ChannelError(`${message.kind} where sessions should be`);
  const needed = message.records.reduce((sum, record) => sum + (hasUpstream(record) ? 2 : 1), 0);
  if (needed !== descriptors.length) {
    for (const fd of descriptors) fd.close();
    throw new ChannelError(`${descriptors.length} descriptors for ${message.records.length} sessions`);
  }
  let at = 0;
  return message.records.map((record) => {
    const client = descriptors[at++]!.release();
    return {
      record,
      sockets: { client, upstream: hasUpstream(record) ? descriptors[at++]!.release() : undefined },
    };
  });
}

function sinceOf({ message }: Incoming): number {
  return message.kind === "sessions" ? message.sinceMs : Number.NaN;
}

async function expect<K extends Message["kind"]>(
  channel: Channel,
  kind: K,
): Promise<Incoming & { readonly message: MessageOf<K> }> {
  const incoming = await channel.receive(ANSWER_LIMIT_MS);
  if (incoming.message.kind !== kind)
    throw new ChannelError(`${incoming.message.kind} where ${kind} should be`);
  return incoming as Incoming & { readonly message: MessageOf<K> };
}
