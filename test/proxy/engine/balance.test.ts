// Goal: sessions go to the servers that the policy, the limits and what became of earlier connects say, and nobody who
// waits for a place is forgotten or kept beyond his time.
// Method: an engine turned by hand on each driver, real servers and clients on the loopback, pinned to short times only
// where a time is what is tested.
import { pino } from "pino";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { SOCK_CLOEXEC, SOCK_NONBLOCK } from "../../../native/abi/socket.ts";
import { check } from "../../../native/errno.ts";
import { EventFd } from "../../../native/eventfd.ts";
import { libc } from "../../../native/libc.ts";
import { Gate } from "../../../pool/gate.ts";
import { EJECTION_MIN, FAILURES_MAX } from "../../../proxy/balance/limits.ts";
import { Line } from "../../../proxy/balance/line.ts";
import type { Policy } from "../../../proxy/balance/policies.ts";
import { ServerState } from "../../../proxy/balance/server-state.ts";
import { EngineCounters } from "../../../proxy/engine/counters.ts";
import { Engine } from "../../../proxy/engine/engine.ts";
import { createEpollDriver } from "../../../proxy/engine/epoll-driver.ts";
import { createIoUringDriver } from "../../../proxy/engine/io-uring-driver.ts";
import { PLAIN_HTTP } from "../../../proxy/http/messages.ts";
import { listen, loopback, newSocket, read, reset, write } from "./loopback.ts";

const BUFFERS = { bufferCount: 64, bufferSize: 16_384 };
const DRIVERS = {
  io_uring: () => createIoUringDriver({ entries: 64, ...BUFFERS }),
  epoll: () => createEpollDriver(BUFFERS),
};
const LIMIT_MS = 10_000;

interface Settings {
  readonly policy?: Policy;
  readonly weights?: readonly number[];
  readonly maxConnections?: number;
  readonly maxQueue?: number;
  readonly connectTimeoutMs?: number;
}

/** A real server, how the engine knows it, and the connections it accepted. */
class TestServer {
  readonly state = new ServerState();
  readonly port: number;
  readonly accepted: number[] = [];
  #fd: number;

  constructor() {
    ({ fd: this.#fd, port: this.port } = listen(512, undefined, SOCK_NONBLOCK));
  }

  accept(): void {
    for (;;) {
      const fd = libc.accept4(this.#fd, null, null, SOCK_CLOEXEC);
      if (fd < 0) return;
      this.accepted.push(fd);
    }
  }

  /** From now on connects are refused; those accepted stay. */
  stopListening(): void {
    if (this.#fd >= 0) libc.close(this.#fd);
    this.#fd = -1;
  }

  listenAgain(): void {
    this.#fd = newSocket(undefined, SOCK_NONBLOCK);
    check(libc.setsockopt(this.#fd, 1, 2, Int32Array.of(1), 4), "setsockopt", {}); // SOL_SOCKET, SO_REUSEADDR
    check(libc.bind(this.#fd, loopback(this.port), 16), "bind", {});
    check(libc.listen(this.#fd, 512), "listen", {});
  }

  /** Ends one of its connections, the oldest. */
  hangUp(): void {
    libc.close(this.accepted.shift()!);
  }

  close(): void {
    this.stopListening();
    for (const fd of this.accepted) libc.close(fd);
  }
}

class Scene {
  readonly engine: Engine;
  readonly servers: readonly TestServer[];
  readonly clients: number[] = [];
  readonly #wakeUp = new EventFd();
  readonly #front = listen();
  readonly #line;
  readonly #settings: Settings;

  constructor(driver: keyof typeof DRIVERS, servers: number, settings: Settings) {
    const wakeFds = new SharedArrayBuffer(4);
    new Int32Array(wakeFds)[0] = this.#wakeUp.fd.number;
    this.#line = Line.create(wakeFds);
    this.#settings = settings;
    this.servers = Array.from({ length: servers }, () => new TestServer());
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
      onDeparted: () => undefined,
      onUnlistened: () => undefined,
      marking: { upstreamMark: undefined, ownConnections: undefined },
      onVisited: () => undefined,
    });
    this.engine.driver.wake(this.#wakeUp.fd.number);
    this.setServers(this.servers);
    this.engine.listen({
      id: 1,
      name: "l",
      fd: this.#front.fd,
      upstream: "u",
      takeAfterMs: 60_000,
      idleTimeoutMs: 60_000,
      maxConnections: 500,
      proxyProtocol: { accept: "none", from: [] },
      route: 0,
      gate: Gate.create(wakeFds, 500),
    });
  }

  /** As a reload or an answer of DNS does. */
  setServers(servers: readonly TestServer[]): void {
    const { policy = "round-robin", weights = [], maxConnections = 0 } = this.#settings;
    const { maxQueue = 10, connectTimeoutMs = LIMIT_MS } = this.#settings;
    this.engine.setUpstream({
      name: "u",
      http: PLAIN_HTTP,
      policy,
      connectTimeoutMs,
      maxQueue,
      line: this.#line,
      proxyProtocol: "none",
      servers: servers.map(({ port, state }, index) => ({
        endpoint: { address: "127.0.0.1", port },
        weight: weights[index] ?? 1,
        maxConnections,
        pool: undefined,
        state: state.buffer,
      })),
    });
  }

  /** Another client, which says something, so that its session goes to a server. */
  connect(): number {
    const fd = newSocket();
    check(libc.connect(fd, loopback(this.#front.port), 16), "connect", {});
    write(fd, "x");
    this.clients.push(fd);
    return fd;
  }

  /** Connects `count` clients one after the other, each when the one before has a server. */
  connectEach(count: number): void {
    for (let done = 0; done < count; done++) {
      const before = this.accepted;
      this.connect();
      this.until("accepted", () => this.accepted > before);
    }
  }

  get counts(): number[] {
    return this.servers.map(({ accepted }) => accepted.length);
  }

  get accepted(): number {
    return this.counts.reduce((sum, count) => sum + count, 0);
  }

  get active(): number[] {
    return this.servers.map(({ state }) => state.active);
  }

  get queued(): number {
    return new Line(this.#line).length;
  }

  turn(): void {
    libc.write(this.#wakeUp.fd.number, new Uint8Array(new BigUint64Array([1n]).buffer), 8);
    this.engine.turn();
    for (const server of this.servers) server.accept();
  }

  until(what: string, holds: () => boolean): void {
    const deadline = performance.now() + LIMIT_MS;
    while (!holds()) {
      if (performance.now() > deadline) throw new Error(`not within ${LIMIT_MS} ms: ${what}`);
      this.turn();
    }
  }

  close(): void {
    this.engine.abort();
    for (let turns = 0; turns < 5; turns++) this.turn();
    const { active, queued } = this;
    this.engine.stop();
    this.#wakeUp.close();
    for (const server of this.servers) server.close();
    for (const fd of [this.#front.fd, ...this.clients]) libc.close(fd);
    assert.ok(
      active.every((count) => count === 0),
      `places left: ${active}`,
    );
    assert.is(queued, 0);
  }
}

/** True once the client was reset or its stream has ended. */
function hasEnded(client: number): boolean {
  const bytes = Buffer.alloc(1);
  const n = Number(libc.recv(client, bytes, 1, 0x40)); // MSG_DONTWAIT
  return n === 0 || (n < 0 && read(client) === "");
}

const balance = suite("balancing in the engine");

function play(
  driver: keyof typeof DRIVERS,
  servers: number,
  settings: Settings,
  script: (it: Scene) => void,
) {
  const scene = new Scene(driver, servers, settings);
  try {
    script(scene);
  } finally {
    scene.close();
  }
}

for (const driver of ["io_uring", "epoll"] as const) {
  balance(`${driver}: given weights 3, 2, 1, then sessions are spread accordingly`, () => {
    play(driver, 3, { weights: [3, 2, 1] }, (it) => {
      it.connectEach(12);
      assert.equal(it.counts, [6, 4, 2]);
      assert.equal(it.active, [6, 4, 2]);
    });
  });

  balance(`${driver}: given long sessions, then least-connections fills up where some ended`, () => {
    play(driver, 2, { policy: "least-connections" }, (it) => {
      it.connectEach(8);
      assert.equal(it.active, [4, 4]);
      const [first] = it.servers;
      for (let ended = 0; ended < 3; ended++) first!.hangUp();
      for (const client of it.clients) libc.shutdown(client, 1); // the other half of each
      it.until("three sessions ended", () => first!.state.active === 1);
      it.connectEach(3);
      assert.equal(it.active, [4, 4]);
    });
  });

  balance(`${driver}: given random, then every server is used and none has all`, () => {
    play(driver, 3, { policy: "random" }, (it) => {
      it.connectEach(30);
      // Two of three are drawn and the better one taken: apart by a few at most, whatever the draws.
      assert.ok(
        it.active.every((count) => count >= 6 && count <= 14),
        String(it.active),
      );
    });
  });

  balance(`${driver}: given a server that refuses, then it is left out, and used again later`, () => {
    play(driver, 2, {}, (it) => {
      const [good, bad] = it.servers as [TestServer, TestServer];
      bad.stopListening();
      it.connectEach(2 * FAILURES_MAX);
      assert.is(good.accepted.length, 2 * FAILURES_MAX, "each client was served");
      assert.is(bad.state.condition, "ejected");
      assert.is(bad.state.failed, FAILURES_MAX);
      bad.listenAgain();
      const dueMs = performance.now() + EJECTION_MIN;
      it.until("time for another try", () => performance.now() > dueMs);
      it.connectEach(2);
      assert.is(bad.accepted.length, 1, "used again");
      it.until("up", () => bad.state.condition === "up");
    });
  });

  balance(`${driver}: given that all are left out, then all are tried`, () => {
    play(driver, 2, {}, (it) => {
      for (const server of it.servers) server.stopListening();
      for (let count = 0; count < FAILURES_MAX; count++) {
        const client = it.connect();
        it.until("reset", () => it.engine.sessionCount === 0 && hasEnded(client));
      }
      assert.equal(
        it.servers.map(({ state }) => state.condition),
        ["ejected", "ejected"],
      );
      it.servers[1]!.listenAgain();
      it.connectEach(1);
      assert.equal(it.counts, [0, 1]);
    });
  });

  balance(`${driver}: given maxConnections, then others wait in line, and enter in turn`, () => {
    play(driver, 2, { maxConnections: 1 }, (it) => {
      it.connectEach(2);
      it.connect();
      it.connect();
      it.until("two in line", () => it.queued === 2);
      assert.equal(it.counts, [1, 1]);
      reset(it.clients.shift()!);
      it.until("the first has the place", () => it.accepted === 3);
      assert.is(it.queued, 1);
      assert.ok(it.active.every((count) => count === 1));
      reset(it.clients.shift()!);
      it.until("the second too", () => it.accepted === 4);
    });
  });

  balance(`${driver}: given a line of its bound, then the next is reset at once`, () => {
    play(driver, 1, { maxConnections: 1, maxQueue: 1 }, (it) => {
      it.connectEach(1);
      it.connect();
      it.until("one in line", () => it.queued === 1);
      const refused = it.connect();
      it.until("reset", () => it.engine.sessionCount === 2 && hasEnded(refused));
      assert.is(it.queued, 1);
    });
  });

  balance(`${driver}: given no place within connectTimeout, then a reset`, () => {
    play(driver, 1, { maxConnections: 1, connectTimeoutMs: 150 }, (it) => {
      it.connectEach(1);
      const startedAt = performance.now();
      const late = it.connect();
      it.until("reset", () => it.engine.sessionCount === 1 && hasEnded(late));
      assert.ok(performance.now() - startedAt >= 140);
    });
  });

  balance(`${driver}: given a client that goes away in line, then it holds up nobody`, () => {
    play(driver, 1, { maxConnections: 1 }, (it) => {
      it.connectEach(1);
      it.connect();
      it.until("in line", () => it.queued === 1);
      it.connect();
      it.until("two in line", () => it.queued === 2);
      reset(it.clients.splice(1, 1)[0]!);
      reset(it.clients.shift()!);
      it.until("both places were used", () => it.accepted >= 2 && it.queued === 0);
    });
  });

  balance(`${driver}: given a full server that is replaced, then who waits goes to the new one`, () => {
    play(driver, 2, { maxConnections: 1 }, (it) => {
      const [old, fresh] = it.servers as [TestServer, TestServer];
      it.setServers([old]);
      it.connectEach(1);
      it.connect();
      it.until("in line", () => it.queued === 1);
      it.setServers([fresh]);
      it.until("at the new server", () => fresh.accepted.length === 1);
      assert.equal(it.active, [1, 1], "the session at the old one goes on");
    });
  });

  balance(`${driver}: given a full server that is removed without another, then who waits is reset`, () => {
    play(driver, 1, { maxConnections: 1 }, (it) => {
      it.connectEach(1);
      const waiting = it.connect();
      it.until("in line", () => it.queued === 1);
      it.setServers([]);
      it.until("reset", () => it.engine.sessionCount === 1 && hasEnded(waiting));
    });
  });
}
balance.run();
