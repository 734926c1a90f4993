/** Two connections that became one: after a 101 both sides speak what they agreed on. */
import type { Socket } from "node:net";

export interface JoinOptions {
  /** What the client sent already, and what the upstream did. */
  readonly head: Buffer;
  readonly rest: Buffer;
  readonly idleTimeoutMs: number;
}

/**
 * Passes bytes both ways with backpressure; a FIN is passed on, and whatever else ends one side ends the other. Owns both
 * sockets. Resolves when both are closed, with the bytes that were passed on.
 */
export function join(
  client: Socket,
  upstream: Socket,
  { head, rest, idleTimeoutMs }: JoinOptions,
): Promise<{ readonly upstream: number; readonly downstream: number }> {
  const passed = { upstream: 0, downstream: 0 };
  const pass = (from: Socket, to: Socket, direction: keyof typeof passed, first: Buffer): void => {
    const write = (chunk: Buffer): void => {
      passed[direction] += chunk.length;
      if (!to.write(chunk)) from.pause();
    };
    if (first.length > 0) write(first);
    from.on("data", write);
    to.on("drain", () => from.resume());
    from.on("end", () => to.end());
    from.setTimeout(idleTimeoutMs, () => from.destroy());
  };
  const ended = new Promise<typeof passed>((resolve) => {
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on("error", () => to.destroy());
      from.on("close", () => {
        if (!from.readableEnded || from.errored) to.destroy();
        if (client.closed && upstream.closed) resolve(passed);
      });
    }
  });
  pass(client, upstream, "upstream", head);
  pass(upstream, client, "downstream", rest);
  return ended;
}
