// Goal: a session that leaves one engine and goes on in another, at any moment, loses and doubles nothing.
// Method: two engines in one thread, on each pair of drivers, between plain sockets on the loopback. Bytes flow both
// ways, in bursts and against peers that read slowly, while every session moves to and fro; then what was read is
// compared with what was written.
import { createHash, randomBytes } from "node:crypto";
import { pino } from "pino";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, SOCK_CLOEXEC } from "../../../native/abi/socket.ts";
import { check } from "../../../native/errno.ts";
import { EventFd } from "../../../native/eventfd.ts";
import { libc } from "../../../native/libc.ts";
import { Gate } from "../../../pool/gate.ts";
import { Line } from "../../../proxy/balance/line.ts";
import { ServerState } from "../../../proxy/balance/server-state.ts";
import { EngineCounters } from "../../../proxy/engine/counters.ts";
import type { Driver } from "../../../proxy/engine/driver.ts";
import { Engine } from "../../../proxy/engine/engine.ts";
import { createEpollDriver } from "../../../proxy/engine/epoll-driver.ts";
import { createIoUringDriver } from "../../../proxy/engine/io-uring-driver.ts";
import type { ListenerShare, UpstreamShare } from "../../../proxy/engine/messages.ts";
import type { MovingSession } from "../../../proxy/engine/session-record.ts";
import { PLAIN_HTTP } from "../../../proxy/http/messages.ts";
import { listen, loopback, newSocket, reset } from "./loopback.ts";

const BUFFERS = { bufferCount: 64, bufferSize: 16_384 };
const DRIVERS = {
  io_uring: (): Driver => createIoUringDriver({ entries: 64, ...BUFFERS }),
  epoll: (): Driver => createEpollDriver(BUFFERS),
};
type DriverName = keyof typeof DRIVERS;

/** An engine that is turned by hand, and what left it. */
class Stage {
  readonly engine: Engine;
  readonly departed: MovingSession[][] = [];
  left = 0;
  readonly #wakeUp = new EventFd();

  constructor(driver: DriverName) {
    const wakeFds = new SharedArrayBuffer(4);
    new Int32Array(wakeFds)[0] = this.#wakeUp.fd.number;
    this.engine = new Engine({
      driver: DRIVERS[driver](),
      counters: new EngineCounters(),
      takers: undefined,
      report: undefined,
      worker: 0,
      descriptors: Gate.create(wakeFds, 1_000),
      log: pino({ level: "silent" }),
      socketFlags: 0,
      onWake: () => undefined,
      onDeparted: (sessions, left) => {
        this.departed.push([...sessions]);
        this.left = left;
      },
      onUnlistened: () => undefined,
      marking: { upstreamMark: undefined, ownConnections: undefined },
      onVisited: () => undefined,
    });
    this.engine.driver.wake(this.#wakeUp.fd.number);
  }

  /** Turns once without waiting. */
  turn(): void {
    this.#wakeUpNow();
    this.engine.turn();
  }

  stop(): void {
    this.engine.stop();
    this.#wakeUp.close();
  }

  #wakeUpNow(): void {
    libc.write(this.#wakeUp.fd.number, new Uint8Array(new BigUint64Array([1n]).buffer), 8);
  }
}

/** A peer's end: what it still has to write, what it read. */
class End {
  readonly fd: number;
  readonly sent = createHash("sha256");
  readonly got = createHash("sha256");
  received = 0;
  hasEnded = false;
  errno = 0;
  #out = Buffer.alloc(0);
  #isFinQueued = false;

  constructor(fd: number) {
    this.fd = fd;
  }

  write(bytes: Uint8Array): void {
    this.sent.update(bytes);
    this.#out = Buffer.concat([this.#out, bytes]);
  }

  end(): void {
    this.#isFinQueued = true;
  }

  /** Writes what fits, reads up to `limit` bytes. */
  pump(limit: number): void {
    const flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    if (this.#out.length > 0) {
      const n = Number(libc.sendto(this.fd, this.#out, this.#out.length, flags, null, 0));
      if (n > 0) this.#out = this.#out.subarray(n);
    } else if (this.#isFinQueued) {
      this.#isFinQueued = false;
      libc.shutdown(this.fd, SHUT_WR);
    }
    const bytes = Buffer.alloc(limit);
    const n = Number(libc.recv(this.fd, bytes, limit, MSG_DONTWAIT));
    if (n === 0) this.hasEnded = true;
    if (n <= 0) return;
    this.received += n;
    this.got.update(bytes.subarray(0, n));
  }
}

/** A client, an upstream, and the two engines between them. */
class Scene {
  readonly stages: readonly [Stage, Stage];
  readonly client: End;
  upstream!: End;
  readonly #server = listen();
  readonly #state = new ServerState();
  readonly #front = listen();
  readonly #share: ListenerShare;
  #at = 0;
  moves = 0;

  constructor(from: DriverName, to: DriverName) {
    this.stages = [new Stage(from), new Stage(to)];
    const endpoint = { address: "127.0.0.1", port: this.#server.port };
    const upstream: UpstreamShare = {
      name: "u",
      policy: "round-robin",
      connectTimeoutMs: 5_000,
      maxQueue: 0,
      line: Line.create(new SharedArrayBuffer(4)),
      proxyProtocol: "none",
      servers: [{ endpoint, weight: 1, maxConnections: 0, pool: undefined, state: this.#state.buffer }],
      http: PLAIN_HTTP,
    };
    this.#share = {
      id: 1,
      name: "l",
      fd: this.#front.fd,
      upstream: "u",
      takeAfterMs: 20,
      idleTimeoutMs: 60_000,
      maxConnections: 10,
      proxyProtocol: { accept: "none", from: [] },
      transparent: undefined,
      route: 0,
      gate: Gate.create(new SharedArrayBuffer(4), 10),
    };
    for (const { engine } of this.stages) engine.setUpstream(upstream);
    this.stages[0].engine.listen(this.#share);
    const fd = newSocket();
    check(libc.connect(fd, loopback(this.#front.port), 16), "connect", {});
    this.client = new End(fd);
  }

  /** Waits for the session's upstream connection. */
  accept(): void {
    libc.fcntl(this.#server.fd, 4, 0o4000); // F_SETFL, O_NONBLOCK
    this.until("an upstream connection", () => {
      const fd = libc.accept4(this.#server.fd, null, null, SOCK_CLOEXEC);
      if (fd >= 0) this.upstream = new End(fd);
      return fd >= 0;
    });
    for (let turns = 0; turns < 3; turns++) this.turn(); // the engine learns of it too
  }

  turn(): void {
    for (const stage of this.stages) stage.turn();
  }

  until(what: string, holds: () => boolean, each: () => void = () => undefined): void {
    const deadline = performance.now() + 30_000;
    while (!holds()) {
      if (performance.now() > deadline) throw new Error(`not within 30 s: ${what}`);
      each();
      this.turn();
    }
  }

  /** Moves the session to the other engine. False: it could not leave just then. */
  move(): boolean {
    const from = this.stages[this.#at]!;
    from.engine.depart(10);
    this.until("a departure", () => from.departed.length > 0);
    const [sessions = []] = from.departed.splice(0);
    if (sessions.length === 0) return false;
    this.#at = 1 - this.#at;
    this.moves += 1;
    // As between processes: plain data, and descriptors of its own.
    const copies = structuredClone(sessions);
    this.stages[this.#at]!.engine.adopt(this.#share, copies);
    return true;
  }

  /** Sessions that have a place at the server, over both engines. */
  get places(): number {
    return this.#state.active;
  }

  get sessions(): number {
    return this.stages[0].engine.sessionCount + this.stages[1].engine.sessionCount;
  }

  close(): void {
    for (const { engine } of this.stages) engine.abort();
    for (let turns = 0; turns < 3; turns++) this.turn();
    for (const stage of this.stages) stage.stop();
    for (const fd of [this.#server.fd, this.#front.fd, this.client.fd, this.upstream?.fd]) {
      if (fd !== undefined) libc.close(fd);
    }
  }
}

const moving = suite("sessions on the move");

function scene(from: DriverName, to: DriverName, play: (scene: Scene) => void): void {
  const stage = new Scene(from, to);
  try {
    play(stage);
  } finally {
    stage.close();
  }
}

for (const [from, to] of [
  ["io_uring", "io_uring"],
  ["epoll", "epoll"],
  ["io_uring", "epoll"],
] as const) {
  const named = `${from} to ${to}`;

  moving(`${named}: given bytes both ways and slow readers, then every byte arrives once`, () => {
    scene(from, to, (it) => {
      it.client.write(randomBytes(10));
      it.accept();
      let rounds = 0;
      const play = (): void => {
        rounds += 1;
        if (rounds < 400) {
          // Bursts beyond what sockets hold, so that sends are cut in the middle.
          if (rounds % 40 === 1) it.client.write(randomBytes(1_500_000));
          if (rounds % 50 === 7) it.upstream.write(randomBytes(2_000_000));
          it.client.write(randomBytes(rounds % 97));
          it.upstream.write(randomBytes(rounds % 89));
        } else if (rounds === 400) {
          it.client.end();
          it.upstream.end();
        }
        it.client.pump(1 + ((rounds * 7_919) % 60_000));
        it.upstream.pump(1 + ((rounds * 104_729) % 60_000));
        if (it.sessions > 0) it.move();
      };
      it.until("both ends", () => it.client.hasEnded && it.upstream.hasEnded, play);
      assert.is(it.client.got.digest("hex"), it.upstream.sent.digest("hex"));
      assert.is(it.upstream.got.digest("hex"), it.client.sent.digest("hex"));
      assert.ok(it.moves > 100, `${it.moves} moves`);
      it.until("no session left", () => it.sessions === 0);
      assert.is(it.places, 0);
      console.log(`  ${named}: ${it.moves} moves, ${it.client.received + it.upstream.received} bytes`);
    });
  });

  moving(`${named}: given a client that is silent, then it moves before it has an upstream`, () => {
    scene(from, to, (it) => {
      it.until("the session", () => it.sessions === 1);
      assert.ok(it.move());
      it.accept(); // takeAfter passes
      it.client.write(Buffer.from("hello"));
      it.client.end();
      const pump = (): void => {
        it.client.pump(100);
        it.upstream.pump(100);
      };
      it.until("the end at the upstream", () => it.upstream.hasEnded, pump);
      assert.is(it.upstream.received, 5);
      assert.is(it.places, 1);
      assert.ok(it.move(), "half closed, it moves too");
      assert.is(it.places, 1);
      it.upstream.write(Buffer.from("goodbye"));
      it.upstream.end();
      it.until("the end at the client", () => it.client.hasEnded, pump);
      assert.is(it.client.received, 7);
    });
  });

  moving(`${named}: given an end that came while it was suspended, then it is passed on`, () => {
    scene(from, to, (it) => {
      it.client.write(Buffer.from("x"));
      const pump = (): void => it.client.pump(100);
      it.until("the session", () => it.sessions === 1, pump);
      it.accept();
      libc.shutdown(it.upstream.fd, SHUT_WR);
      it.move();
      it.until("the end at the client", () => it.client.hasEnded, pump);
    });
  });

  moving(`${named}: given a reset while it moves, then the other side gets one`, () => {
    scene(from, to, (it) => {
      it.client.write(Buffer.from("x"));
      it.until(
        "the session",
        () => it.sessions === 1,
        () => it.client.pump(100),
      );
      it.accept();
      reset(it.upstream.fd);
      it.move();
      it.until("no session left", () => it.sessions === 0);
      const bytes = Buffer.alloc(1);
      assert.is(Number(libc.recv(it.client.fd, bytes, 1, MSG_DONTWAIT)), -1);
    });
  });
}
moving.run();
