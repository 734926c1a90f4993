// Connections of tests, opened on a host by lines.ts, which sends an order per connection by IPC.
import { connect, type Socket } from "node:net";
import type { Drop, Order, Outcome } from "./lines.ts";

const held = new Map<number, Socket>();

process.on("message", (message: Order | Drop) => {
  if ("drop" in message) {
    const socket = held.get(message.drop);
    if (message.reset) socket?.resetAndDestroy();
    else socket?.destroy();
    held.delete(message.drop);
    return;
  }
  void exchange(message).then((outcome) => process.send?.(outcome));
});
process.send?.("listening");

/** Sends the line and reads what was asked for; resolves with times in ms since connect() was called. */
function exchange({ id, host, port, line, padding, hold, timeoutMs }: Order): Promise<Outcome> {
  return new Promise((resolve) => {
    const startedAt = performance.now();
    const wanted = Number.parseInt(line, 10);
    let [bytes, firstByteMs, localPort] = [0, 0, 0];
    const socket = connect({ host, port });
    const end = (error?: string): void => {
      clearTimeout(limit);
      const lastByteMs = performance.now() - startedAt;
      if (hold && error === undefined) held.set(id, socket);
      else socket.destroy();
      resolve({ id, bytes, firstByteMs, lastByteMs, localPort, ...(error !== undefined && { error }) });
    };
    const limit = setTimeout(() => end("TIMEOUT"), timeoutMs);
    socket.setNoDelay(true);
    socket.once("connect", () => {
      localPort = socket.localPort ?? 0;
      socket.write(`${line}${" ".repeat(padding)}\n`);
    });
    socket.on("data", (chunk) => {
      if (bytes === 0) firstByteMs = performance.now() - startedAt;
      bytes += chunk.length;
      if (bytes >= wanted && !line.endsWith("close")) end();
    });
    socket.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
    socket.once("end", () => end(bytes < wanted ? "SHORT" : undefined));
  });
}
