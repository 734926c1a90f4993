/**
 * Sockets on a host of the lab, driven from a test: clients and servers whose every step, and what they saw of
 * the other side, is the test's to decide. The process that holds them is peer-program.ts.
 */
import type { ChildProcess } from "node:child_process";
import type { World } from "./world.ts";

/** What a server does with its connections. */
export type ServerKind =
  /** Tells the test of each; the test does the rest. */
  | { readonly behaviour: "report" }
  | { readonly behaviour: "echo" }
  /** Speaks first, then ends. */
  | { readonly behaviour: "greet"; readonly text: string }
  /** Reads the number of a request, counts it, then answers and ends, closes without a word or resets. */
  | {
      readonly behaviour: "count";
      readonly act: "answer" | "close" | "reset";
      readonly afterMs?: number;
      readonly name?: string;
    };

/** Pseudo-random bytes, sent in chunks; after every `pauseEvery` of them a random pause up to `pauseMs`. */
export interface Bulk {
  readonly bytes: number;
  readonly seed: number;
  readonly chunk?: number;
  readonly pauseMs?: number;
  readonly pauseEvery?: number;
}

/** Requests of the numbers `first` … `first + count - 1`, each on a connection of its own. */
export interface Requests {
  readonly host: string;
  readonly port: number;
  readonly first: number;
  readonly count: number;
  readonly concurrency?: number;
  readonly gapMs?: number;
  /** Sends a second segment this long after the first. */
  readonly secondAfterMs?: number;
  readonly limitMs: number;
}

export interface Outcome {
  readonly id: number;
  /** "end": a FIN without an answer. "silence": nothing within the limit. */
  readonly end: "answer" | "end" | "reset" | "refused" | "silence";
  readonly text: string;
  readonly firstByteMs: number | undefined;
  readonly tookMs: number;
}

/** Connections to an echoing server, all at once, each with up to `bytesMax` bytes. */
export interface Exchanges {
  readonly host: string;
  readonly port: number;
  readonly count: number;
  readonly bytesMax: number;
  readonly seed: number;
}

export interface ConnectionReport {
  readonly bytes: number;
  readonly sha256: string;
  readonly text: string;
}

export type ToPeer =
  | { op: "listen"; serve: ServerKind; port: number; host: string; backlog: number }
  | { op: "unlisten"; server: number }
  | { op: "connect"; host: string; port: number; text?: string; end?: boolean }
  | { op: "write"; connection: number; text: string }
  | { op: "end" | "reset" | "pause" | "resume" | "report"; connection: number }
  | { op: "send"; connection: number; bulk: Bulk }
  | { op: "requests"; requests: Requests }
  | { op: "exchanges"; exchanges: Exchanges }
  | { op: "seen" };

type EventKind = "connect" | "data" | "end" | "error" | "close";

export type FromPeer =
  | { kind: "up" }
  | { kind: "done"; call: number; result: unknown }
  | { kind: "failed"; call: number; message: string }
  | { kind: "accepted"; server: number; connection: number; atMs: number }
  | { kind: "event"; connection: number; event: EventKind; atMs: number; code?: string };

export interface PeerEvent {
  readonly event: EventKind;
  /** Since 1970, as in captures. */
  readonly atMs: number;
  readonly code?: string;
}

const LIMIT_MS = 10_000;

/** Resolves when `found` returns something; rejects with `what` after `limitMs`. */
async function until<T>(what: () => string, found: () => T | undefined, limitMs: number): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const value = found();
    if (value !== undefined) return value;
    if (performance.now() > deadline) throw new Error(`${what()}: not within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** A connection of a peer: either end. */
export class PeerConnection {
  readonly events: PeerEvent[] = [];
  readonly id: number;
  /** When it was started or accepted, ms since 1970. */
  readonly startedMs: number;
  readonly #peer: Peer;

  constructor(peer: Peer, id: number, startedMs: number) {
    this.#peer = peer;
    this.id = id;
    this.startedMs = startedMs;
  }

  /** Resolves with the first event of the kind, past or to come. */
  saw(kind: EventKind, limitMs = LIMIT_MS): Promise<PeerEvent> {
    return until(
      () => `${kind} on a connection with ${JSON.stringify(this.events)}`,
      () => this.events.find(({ event }) => event === kind),
      limitMs,
    );
  }

  has(kind: EventKind): boolean {
    return this.events.some(({ event }) => event === kind);
  }

  async write(text: string): Promise<void> {
    await this.#peer.call({ op: "write", connection: this.id, text });
  }

  async end(): Promise<void> {
    await this.#peer.call({ op: "end", connection: this.id });
  }

  async reset(): Promise<void> {
    await this.#peer.call({ op: "reset", connection: this.id });
  }

  async pause(): Promise<void> {
    await this.#peer.call({ op: "pause", connection: this.id });
  }

  async resume(): Promise<void> {
    await this.#peer.call({ op: "resume", connection: this.id });
  }

  /** Sends pseudo-random bytes and resolves with their SHA-256 once the last is written. */
  async send(bulk: Bulk): Promise<string> {
    return (await this.#peer.call({ op: "send", connection: this.id, bulk })) as string;
  }

  async report(): Promise<ConnectionReport> {
    return (await this.#peer.call({ op: "report", connection: this.id })) as ConnectionReport;
  }

  /** Resolves with the text received once it contains `text`. */
  async heard(text: string, limitMs = LIMIT_MS): Promise<string> {
    const deadline = performance.now() + limitMs;
    for (;;) {
      const report = await this.report();
      if (report.text.includes(text)) return report.text;
      if (performance.now() > deadline) throw new Error(`"${text}" not heard: ${JSON.stringify(report)}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

/** A listening socket of a peer. */
export class PeerServer {
  readonly port: number;
  readonly accepted: PeerConnection[] = [];
  readonly #peer: Peer;
  readonly #id: number;
  #handed = 0;

  constructor(peer: Peer, id: number, port: number) {
    this.#peer = peer;
    this.#id = id;
    this.port = port;
  }

  /** The next connection accepted, for servers that report. */
  async next(limitMs = LIMIT_MS): Promise<PeerConnection> {
    const connection = await until(
      () => "a connection",
      () => this.accepted[this.#handed],
      limitMs,
    );
    this.#handed += 1;
    return connection;
  }

  /** Closes the listening socket, which forgets half-open connections; accepted ones go on. */
  async close(): Promise<void> {
    await this.#peer.call({ op: "unlisten", server: this.#id });
  }
}

export class Peer {
  readonly #child: ChildProcess;
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  readonly #connections = new Map<number, PeerConnection>();
  readonly #servers = new Map<number, PeerServer>();
  #nextCall = 1;
  #up: () => void = () => {};

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on("message", (message) => this.#onMessage(message as FromPeer));
    child.once("exit", () => {
      for (const { reject } of this.#calls.values()) reject(new Error("the peer's process ended"));
    });
  }

  /** Starts the process on a host; the lab ends it. */
  static async start(world: World, host: string): Promise<Peer> {
    const peer = new Peer(world.program(host, new URL("peer-program.ts", import.meta.url)));
    await new Promise<void>((resolve) => {
      peer.#up = resolve;
    });
    return peer;
  }

  /** Listens on all IPv4 addresses unless told; port 0 picks one. */
  async listen(serve: ServerKind, port = 0, host = "0.0.0.0", backlog = 511): Promise<PeerServer> {
    const found = await this.call({ op: "listen", serve, port, host, backlog });
    const { server: id, port: bound } = found as { server: number; port: number };
    const server = new PeerServer(this, id, bound);
    this.#servers.set(id, server);
    return server;
  }

  /** Starts to connect; `text` and the FIN go out as soon as that succeeded. */
  async connect(
    port: number,
    host = "127.0.0.1",
    first: { readonly text?: string; readonly end?: boolean } = {},
  ): Promise<PeerConnection> {
    const made = await this.call({ op: "connect", port, host, ...first });
    const { connection: id, atMs } = made as { connection: number; atMs: number };
    return this.#connection(id, atMs);
  }

  /** Sends requests and resolves with what became of each. */
  async requests(requests: Requests): Promise<Outcome[]> {
    return (await this.call({ op: "requests", requests })) as Outcome[];
  }

  /** Runs exchanges and resolves with the problems. */
  async exchanges(exchanges: Exchanges): Promise<string[]> {
    return (await this.call({ op: "exchanges", exchanges })) as string[];
  }

  /** How often each request reached this peer's counting servers. */
  async seen(): Promise<Map<number, number>> {
    return new Map((await this.call({ op: "seen" })) as [number, number][]);
  }

  call(message: ToPeer): Promise<unknown> {
    const call = this.#nextCall++;
    return new Promise((resolve, reject) => {
      this.#calls.set(call, { resolve, reject });
      this.#child.send({ ...message, call });
    });
  }

  /** Events of a connection may come before the answer that names it. */
  #connection(id: number, startedMs: number): PeerConnection {
    const known = this.#connections.get(id);
    const connection = new PeerConnection(this, id, startedMs);
    if (known !== undefined) connection.events.push(...known.events);
    this.#connections.set(id, connection);
    return connection;
  }

  #onMessage(message: FromPeer): void {
    switch (message.kind) {
      case "up":
        this.#up();
        break;
      case "done":
        this.#calls.get(message.call)?.resolve(message.result);
        this.#calls.delete(message.call);
        break;
      case "failed":
        this.#calls.get(message.call)?.reject(new Error(message.message));
        this.#calls.delete(message.call);
        break;
      case "accepted": {
        const connection = this.#connection(message.connection, message.atMs);
        this.#servers.get(message.server)?.accepted.push(connection);
        break;
      }
      case "event": {
        const { connection: id, event, atMs, code } = message;
        const connection = this.#connections.get(id) ?? new PeerConnection(this, id, atMs);
        this.#connections.set(id, connection);
        connection.events.push({ event, atMs, ...(code !== undefined && { code }) });
        break;
      }
      default: {
        const unreachable: never = message;
        throw new Error(`unknown message ${JSON.stringify(unreachable)}`);
      }
    }
  }
}

/** The middle value; the upper one of two. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
