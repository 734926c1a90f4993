/**
 * Both ends of idle sessions: PROXY_PORT ORIGIN_PORT COUNT WARM_UP. Listens, and after a line opens WARM_UP sessions and
 * ends them, then COUNT that stay; a byte has passed each way through each. After another line every one passes a
 * byte again. Prints "listening", "warm", "held" and "alive".
 */
import { createInterface } from "node:readline";
import { encodeSockaddr } from "../../native/address.ts";
import { check } from "../../native/errno.ts";
import { libc } from "../../native/libc.ts";
import { listenTcp, newTcpSocket } from "../../native/net/tcp-socket.ts";

const [proxyPort = 0, originPort = 0, count = 0, warmUp = 0] = process.argv.slice(2).map(Number);
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const proxy = encodeSockaddr({ address: "127.0.0.1", port: proxyPort });
const byte = Uint8Array.of(0);

interface Held {
  readonly client: number;
  readonly upstream: number;
}

async function report(phase: string): Promise<void> {
  process.stdout.write(`${JSON.stringify({ phase })}\n`);
  await input.next();
}

function pass(from: number, to: number, value: number): void {
  byte[0] = value;
  check(Number(libc.write(from, byte, 1)), "write", { from });
  byte[0] = value ^ 0xff;
  const length = Number(libc.read(to, byte, 1));
  if (length !== 1 || byte[0] !== value) throw new Error(`${length} bytes, ${byte[0]} in place of ${value}`);
}

function exchange({ client, upstream }: Held, value: number): void {
  pass(client, upstream, value & 0xff);
  pass(upstream, client, ~value & 0xff);
}

const listener = listenTcp({ address: "127.0.0.1", port: originPort }, 4_096);

function open(value: number): Held {
  const client = newTcpSocket(4, 0).release();
  check(libc.connect(client, proxy, proxy.length), "connect", { proxyPort });
  byte[0] = value & 0xff;
  check(Number(libc.write(client, byte, 1)), "write", { client });
  const upstream = check(libc.accept4(listener.number, null, null, 0), "accept4", {});
  if (Number(libc.read(upstream, byte, 1)) !== 1 || byte[0] !== (value & 0xff)) throw new Error("wrong byte");
  pass(upstream, client, value & 0xff);
  return { client, upstream };
}

await report("listening");
for (let value = 0; value < warmUp; value++) {
  const { client, upstream } = open(value);
  libc.close(upstream);
  libc.close(client);
}
await report("warm");
const held = Array.from({ length: count }, (_, value) => open(value));
await report("held");
for (const [value, session] of held.entries()) exchange(session, value + 1);
await report("alive");
