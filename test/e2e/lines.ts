/** Line requests between the hosts of a world: a server process on one, a process of connections on another. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { World } from "./world.ts";

/** What a connection shall do: send `line`, read as many bytes as it names, then close or be held. */
export interface Order {
  readonly id: number;
  readonly host: string;
  readonly port: number;
  readonly line: string;
  /** Spaces behind it. */
  readonly padding: number;
  readonly hold: boolean;
  readonly timeoutMs: number;
}

/** Ends a connection that was held: by a FIN, or by a RST. */
export interface Drop {
  readonly drop: number;
  readonly reset: boolean;
}

export interface Outcome {
  readonly id: number;
  readonly bytes: number;
  readonly firstByteMs: number;
  readonly lastByteMs: number;
  readonly localPort: number;
  /** An error code, TIMEOUT, or SHORT for an end before all bytes came. */
  readonly error?: string;
}

export interface RequestOptions {
  /** Bytes to ask for. */
  readonly size?: number;
  /** Bytes to send that mean nothing. */
  readonly padding?: number;
  /** The server ends the connection. */
  readonly close?: boolean;
  /** Keeps the connection open until drop(). */
  readonly hold?: boolean;
  readonly timeoutMs?: number;
}

/** Starts the line server on a host; resolves once it listens on every port, IPv4 and IPv6. */
export async function serve(
  world: World,
  host: string,
  listeners: readonly { readonly port: number; readonly backlog?: number }[],
): Promise<ChildProcess> {
  const script = new URL("./line-server.ts", import.meta.url);
  const server = world.program(host, script, [JSON.stringify(listeners)]);
  await once(server, "message");
  return server;
}

/** Connections from one host. */
export class LineClient {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, (outcome: Outcome) => void>();
  #nextId = 1;

  private constructor(child: ChildProcess) {
    this.#process = child;
    child.on("message", (outcome: Outcome) => {
      this.#waiting.get(outcome.id)?.(outcome);
      this.#waiting.delete(outcome.id);
    });
  }

  static async on(world: World, host: string): Promise<LineClient> {
    const child = world.program(host, new URL("./line-client.ts", import.meta.url));
    await once(child, "message");
    return new LineClient(child);
  }

  /** One connection with one request. A failure is in the outcome. */
  request(host: string, port: number, options: RequestOptions = {}): Promise<Outcome> {
    const { size = 100, padding = 0, close = false, hold = false, timeoutMs = 10_000 } = options;
    const id = this.#nextId++;
    const line = `${size}${close ? " close" : ""}`;
    const order: Order = { id, host, port, line, padding, hold, timeoutMs };
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#process.send(order);
    });
  }

  /** Closes a connection that was held, by a FIN or with `reset` by a RST. */
  drop({ id }: Outcome, reset = false): void {
    this.#process.send({ drop: id, reset } satisfies Drop);
  }
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
