// Real sockets on the loopback for the driver tests: the peers, driven by plain system calls.
import { Worker } from "node:worker_threads";
import * as assert from "uvu/assert";
import {
  AF_INET,
  type AF_INET6,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SO_LINGER,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../../../native/abi/socket.ts";
import { check } from "../../../native/errno.ts";
import { libc } from "../../../native/libc.ts";
import { Memory } from "../../../native/memory.ts";
import type { CompletionHandler, Driver } from "../../../proxy/engine/driver.ts";

export type Family = typeof AF_INET | typeof AF_INET6;

/** struct sockaddr_in or sockaddr_in6 of the loopback address. */
export function loopback(port: number, family: Family = AF_INET): Uint8Array {
  const bytes = new Uint8Array(family === AF_INET ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, family, true);
  view.setUint16(2, port);
  if (family === AF_INET) bytes.set([127, 0, 0, 1], 4);
  else bytes[23] = 1;
  return bytes;
}

export function listen(backlog = 512, family: Family = AF_INET, flags = 0): { fd: number; port: number } {
  const fd = check(libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), "socket", {});
  const address = loopback(0, family);
  check(libc.bind(fd, address, address.length), "bind", {});
  check(libc.listen(fd, backlog), "listen", {});
  check(libc.getsockname(fd, address, Uint32Array.of(address.length)), "getsockname", {});
  return { fd, port: new DataView(address.buffer).getUint16(2) };
}

export function newSocket(family: Family = AF_INET, flags = 0): number {
  return check(libc.socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), "socket", {});
}

/** An established connection: `near` is for the driver, `far` is the peer's end. */
export function pair(): { near: number; far: number } {
  const server = listen(1);
  const far = newSocket();
  check(libc.connect(far, loopback(server.port), 16), "connect", {});
  const near = check(libc.accept4(server.fd, null, null, SOCK_CLOEXEC), "accept4", {});
  libc.close(server.fd);
  return { near, far };
}

export function write(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  assert.is(Number(libc.sendto(fd, bytes, bytes.length, MSG_NOSIGNAL, null, 0)), bytes.length);
}

/** What can be read without waiting; undefined when nothing can, "" at the end of the stream. */
export function read(fd: number, limit = 65536): string | undefined {
  const bytes = Buffer.alloc(limit);
  const n = Number(libc.recv(fd, bytes, limit, MSG_DONTWAIT));
  return n < 0 ? undefined : bytes.toString("latin1", 0, n);
}

/** Closes with a reset. */
export function reset(fd: number): void {
  check(libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, Int32Array.of(1, 0), 8), "setsockopt", {});
  libc.close(fd);
}

export interface Completion {
  readonly slot: number;
  readonly tag: number;
  readonly result: number;
  readonly bufferId: number;
  readonly more: boolean;
}

/** Writes completions down. */
export class Recorder implements CompletionHandler {
  readonly seen: Completion[] = [];

  complete(slot: number, tag: number, result: number, bufferId: number, more: boolean): void {
    this.seen.push({ slot, tag, result, bufferId, more });
  }

  /** Runs the driver until `count` more completions came, and returns them. */
  take(driver: Driver, count: number, limitMs = 5000): Completion[] {
    const deadline = performance.now() + limitMs;
    while (this.seen.length < count) {
      const left = deadline - performance.now();
      assert.ok(left > 0, `${this.seen.length} of ${count} completions: ${JSON.stringify(this.seen)}`);
      driver.run(left, this);
    }
    return this.seen.splice(0, count);
  }

  one(driver: Driver): Completion {
    return this.take(driver, 1)[0]!;
  }

  /** Asserts that nothing completes for a while. */
  silence(driver: Driver, forMs = 20): void {
    const end = performance.now() + forMs;
    for (let left = forMs; left > 0; left = end - performance.now()) driver.run(left, this);
    assert.equal(this.seen, []);
  }
}

/** The bytes of a receive, whose buffer goes back. */
export function textOf(driver: Driver, { result, bufferId }: Completion): string {
  assert.ok(result > 0 && bufferId >= 0, `a receive with data, not ${result}`);
  const text = Buffer.from(driver.buffers.bytes(bufferId, result)).toString("latin1");
  driver.release(bufferId);
  return text;
}

/** Memory with this text in it; the caller closes it. */
export function memoryOf(bytes: Uint8Array | string): Memory {
  const content = typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes;
  const memory = Memory.anonymous(Math.max(content.length, 1));
  memory.bytes.set(content);
  return memory;
}

/** A worker thread on a TypeScript file. On Node 20 a worker does not inherit the loader that tsx installed. */
export function startWorker(url: URL, workerData: unknown): Worker {
  const loader = import.meta.resolve("tsx/esm/api");
  const code = `import(${JSON.stringify(loader)}).then((tsx) => { tsx.register(); return import(${JSON.stringify(url.href)}); })`;
  return new Worker(code, { eval: true, workerData });
}
