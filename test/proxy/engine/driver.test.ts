// Goal: every driver keeps the contract of proxy/engine/driver.ts, with and without optional kernel features.
// Method: each operation on real sockets over the loopback; the peers use plain system calls on this thread,
// which works because nothing here makes the driver wait for a peer that has not acted yet.
import { on } from "node:events";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ECANCELED, ECONNREFUSED, ECONNRESET, EPIPE } from "../../../native/abi/errno.ts";
import {
  AF_INET6,
  MSG_DONTWAIT,
  SHUT_WR,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from "../../../native/abi/socket.ts";
import { check } from "../../../native/errno.ts";
import { libc } from "../../../native/libc.ts";
import { Memory } from "../../../native/memory.ts";
import { type Driver, SLOT_MAX, WAKE_SLOT } from "../../../proxy/engine/driver.ts";
import { DRIVERS, type Sizes } from "./drivers.ts";
import {
  type Completion,
  listen,
  loopback,
  memoryOf,
  newSocket,
  pair,
  Recorder,
  read,
  reset,
  startWorker,
  textOf,
  write,
} from "./loopback.ts";

const SMALL: Sizes = { entries: 32, bufferCount: 8, bufferSize: 4096 };
const ok = (slot: number, tag: number, result: number): Completion => ({
  slot,
  tag,
  result,
  bufferId: -1,
  more: false,
});

for (const [index, [name, create]] of DRIVERS.entries()) {
  const test = suite(`driver ${name}`);

  /** Runs `body` with a driver that is stopped afterwards whatever happens. */
  const given = (title: string, body: (driver: Driver, seen: Recorder) => void, sizes = SMALL) =>
    test(title, () => {
      const driver = create(sizes);
      try {
        body(driver, new Recorder());
      } finally {
        driver.stop();
      }
    });

  for (const flags of [0, SOCK_NONBLOCK]) {
    given(
      `given a ${flags ? "non-blocking" : "blocking"} listener, then each accept takes one client, or waits until cancelled`,
      (driver, seen) => {
        const server = listen(16, undefined, flags);
        for (const inTime of [true, false, true]) {
          const client = newSocket();
          if (inTime) driver.accept(server.fd, 3, 30);
          if (inTime) seen.silence(driver);
          libc.connect(client, loopback(server.port), 16);
          if (!inTime) seen.silence(driver); // it stays in the backlog
          if (!inTime) driver.accept(server.fd, 3, 30);
          const { result, ...rest } = seen.one(driver);
          assert.equal(rest, { slot: 3, tag: 30, bufferId: -1, more: false });
          assert.is(libc.fcntl(result, 1, 0), 1, "F_GETFD: FD_CLOEXEC");
          assert.is(libc.fcntl(result, 3, 0) & SOCK_NONBLOCK, SOCK_NONBLOCK, "F_GETFL");
          libc.close(client);
          libc.close(result);
        }
        driver.accept(server.fd, 3, 30);
        driver.cancel(3, 30);
        assert.equal(seen.one(driver), ok(3, 30, -ECANCELED));
        libc.close(server.fd);
      },
    );

    given(
      `given a ${flags ? "non-blocking" : "blocking"} socket without data, then recv waits for them`,
      (driver, seen) => {
        const { near, far } = pair();
        libc.fcntl(near, 4, flags);
        driver.recv(near, 1, 2);
        seen.silence(driver);
        write(far, "hello");
        const completion = seen.one(driver);
        assert.is(completion.more, false);
        assert.equal([completion.slot, completion.tag], [1, 2]);
        assert.is(textOf(driver, completion), "hello");
        libc.close(near);
        libc.close(far);
      },
    );
  }

  given("given more data than a buffer holds, then each recv brings the next part", (driver, seen) => {
    const { near, far } = pair();
    write(far, "a".repeat(4096) + "b".repeat(10));
    driver.recv(near, 1, 1);
    assert.is(textOf(driver, seen.one(driver)), "a".repeat(4096));
    driver.recv(near, 1, 1);
    assert.is(textOf(driver, seen.one(driver)), "b".repeat(10));
    libc.close(near);
    libc.close(far);
  });

  given("given the end of the stream, then recv completes with 0 and without a buffer", (driver, seen) => {
    const { near, far } = pair();
    libc.shutdown(far, SHUT_WR);
    for (let i = 0; i < 20; i++) {
      driver.recv(near, 1, i);
      assert.equal(seen.one(driver), ok(1, i, 0));
    }
    write(near, "still open");
    assert.is(read(far), "still open");
    libc.close(near);
    libc.close(far);
  });

  given("given a reset, then recv completes with ECONNRESET and send with EPIPE", (driver, seen) => {
    for (let i = 0; i < 20; i++) {
      const { near, far } = pair();
      driver.recv(near, 1, 1);
      driver.run(0, seen);
      reset(far);
      assert.equal(seen.one(driver), ok(1, 1, -ECONNRESET));
      const text = memoryOf("late");
      driver.send(near, text.address, 4, 1, 2);
      assert.equal(seen.one(driver), ok(1, 2, -EPIPE));
      text.close();
      driver.close(near);
      seen.silence(driver, 1);
    }
  });

  given("given bytes with the end behind them, then recv says that there is more", (driver, seen) => {
    const { near, far } = pair();
    driver.recv(near, 1, 1);
    write(far, "alone");
    const alone = seen.one(driver);
    assert.is(alone.more, false);
    assert.is(textOf(driver, alone), "alone");
    write(far, "last");
    check(libc.shutdown(far, SHUT_WR), "shutdown", {});
    driver.recv(near, 1, 2);
    const last = seen.one(driver);
    assert.is(last.more, true);
    assert.is(textOf(driver, last), "last");
    driver.recv(near, 1, 3);
    assert.equal(seen.one(driver), ok(1, 3, 0));
    driver.close(near);
    libc.close(far);
  });

  given("given a send with more to come, then its bytes leave with the end", (driver, seen) => {
    const { near, far } = pair();
    const text = memoryOf("last");
    driver.send(near, text.address, 4, 1, 1, true);
    assert.equal(seen.one(driver), ok(1, 1, 4));
    assert.is(read(far), undefined);
    driver.shutdown(near, SHUT_WR);
    driver.run(0, seen);
    assert.is(read(far), "last");
    assert.is(read(far), "");
    text.close();
    driver.close(near);
    libc.close(far);
  });

  given("given 64 MiB and a slow reader, then one send carries them all in order", (driver, seen) => {
    const { near, far } = pair();
    const size = 64 * 2 ** 20;
    const memory = Memory.anonymous(size);
    const sent = new Uint32Array(memory.buffer);
    for (let i = 0; i < sent.length; i++) sent[i] = Math.imul(i, 0x9e3779b1);
    driver.send(near, memory.address, size, 7, 70);
    const bytes = new Uint8Array(2 ** 20);
    let got = 0;
    while (got < size) {
      driver.run(0, seen);
      if (got < size / 2) assert.is(seen.seen.length, 0, "not complete while half of it is missing");
      const n = Number(libc.recv(far, bytes, bytes.length, MSG_DONTWAIT));
      if (n <= 0) continue;
      if (Buffer.compare(bytes.subarray(0, n), memory.bytes.subarray(got, got + n)) !== 0) {
        assert.unreachable(`bytes differ after ${got}`);
      }
      got += n;
    }
    assert.equal(seen.one(driver), ok(7, 70, size));
    memory.close();
    libc.close(near);
    libc.close(far);
  });

  given(
    "given a send that waits for room, when cancelled, then it tells how much went out",
    (driver, seen) => {
      const { near, far } = pair();
      const memory = Memory.anonymous(2 ** 24);
      libc.setsockopt(near, SOL_SOCKET, SO_SNDBUF, Int32Array.of(16384), 4);
      driver.send(near, memory.address, memory.size, 1, 1);
      seen.silence(driver);
      driver.cancel(1, 1);
      const { result } = seen.one(driver);
      assert.ok(result > 0 && result < memory.size, `${result} bytes`);
      libc.shutdown(near, SHUT_WR);
      let got = 0;
      for (let text = read(far); text !== ""; text = read(far)) {
        got += text?.length ?? 0;
        driver.run(0, seen);
      }
      assert.is(got, result);
      memory.close();
      libc.close(near);
      libc.close(far);
    },
  );

  given("given a peer that resets, then a long send ends short or with the error", (driver, seen) => {
    const { near, far } = pair();
    const memory = Memory.anonymous(2 ** 24);
    driver.send(near, memory.address, memory.size, 1, 1);
    driver.run(0, seen);
    reset(far);
    const { result } = seen.one(driver);
    assert.ok(result < memory.size);
    driver.send(near, memory.address, 1, 1, 2);
    const next = seen.one(driver).result;
    assert.ok(next === -EPIPE || next === -ECONNRESET, `${next}`);
    memory.close();
    libc.close(near);
  });

  given("given an empty send, then it completes with 0", (driver, seen) => {
    const { near, far } = pair();
    const memory = memoryOf("x");
    driver.send(near, memory.address, 0, 1, 1);
    assert.equal(seen.one(driver), ok(1, 1, 0));
    memory.close();
    libc.close(near);
    libc.close(far);
  });

  for (const [title, family] of [
    ["IPv4", undefined],
    ["IPv6", AF_INET6],
  ] as const) {
    for (const flags of [0, SOCK_NONBLOCK]) {
      given(
        `given ${title}, ${flags}, then connect works though its address is overwritten`,
        (driver, seen) => {
          const server = listen(4, family);
          const near = newSocket(family, flags);
          const address = memoryOf(loopback(server.port, family));
          driver.connect(near, address.address, address.size, 5, 50);
          address.bytes.fill(0xff);
          address.close();
          assert.equal(seen.one(driver), ok(5, 50, 0));
          const far = libc.accept4(server.fd, null, null, 0);
          write(near, "through");
          assert.is(read(far), "through");
          for (const fd of [near, far, server.fd]) libc.close(fd);
        },
      );
    }
  }

  given("given nobody listening, then connect completes with ECONNREFUSED", (driver, seen) => {
    const { fd, port } = listen();
    libc.close(fd);
    const near = newSocket();
    const address = memoryOf(loopback(port));
    driver.connect(near, address.address, 16, 1, 1);
    assert.equal(seen.one(driver), ok(1, 1, -ECONNREFUSED));
    address.close();
    libc.close(near);
  });

  given("given a server that does not answer, then connect waits and can be cancelled", (driver, seen) => {
    const server = listen(0);
    const fill = [newSocket(), newSocket()].map((fd) => {
      libc.fcntl(fd, 4, SOCK_NONBLOCK);
      libc.connect(fd, loopback(server.port), 16);
      return fd;
    });
    const near = newSocket();
    const address = memoryOf(loopback(server.port));
    driver.connect(near, address.address, 16, 1, 1);
    seen.silence(driver);
    driver.cancel(1, 1);
    assert.equal(seen.one(driver), ok(1, 1, -ECANCELED));
    address.close();
    for (const fd of [near, server.fd, ...fill]) libc.close(fd);
  });

  given("given several requests, then cancel ends exactly the one of its slot and tag", (driver, seen) => {
    const ends = [pair(), pair(), pair()];
    driver.recv(ends[0]!.near, 1, 1);
    driver.recv(ends[1]!.near, 1, 2);
    driver.recv(ends[2]!.near, 2, 1);
    seen.silence(driver);
    driver.cancel(1, 2);
    driver.cancel(1, 2);
    driver.cancel(9, 9);
    assert.equal(seen.one(driver), ok(1, 2, -ECANCELED));
    seen.silence(driver);
    write(ends[0]!.far, "first");
    assert.is(textOf(driver, seen.one(driver)), "first");
    driver.recv(ends[1]!.near, 1, 2);
    driver.cancel(1, 2); // before it was submitted
    driver.cancel(2, 1);
    const both = seen.take(driver, 2).sort((a, b) => a.slot - b.slot);
    assert.equal(both, [ok(1, 2, -ECANCELED), ok(2, 1, -ECANCELED)]);
    for (const { near, far } of ends) {
      libc.close(near);
      libc.close(far);
    }
  });

  given(
    "given a cancel that loses the race, then the request completes once, with its data",
    (driver, seen) => {
      const { near, far } = pair();
      driver.recv(near, 1, 1);
      driver.run(0, seen);
      write(far, "now");
      driver.cancel(1, 1);
      const completion = seen.one(driver);
      if (completion.result === -ECANCELED) assert.is(read(near), "now", "nothing may get lost");
      else assert.is(textOf(driver, completion), "now");
      seen.silence(driver);
      libc.close(near);
      libc.close(far);
    },
  );

  given("given send, shutdown and close in one batch, then they happen in this order", (driver, seen) => {
    const { near, far } = pair();
    const memory = memoryOf("last words");
    driver.send(near, memory.address, memory.size, 1, 1);
    driver.shutdown(near, SHUT_WR);
    assert.equal(seen.one(driver), ok(1, 1, 10));
    assert.is(read(far), "last words");
    assert.is(read(far), "");
    write(far, "the other direction");
    driver.recv(near, 1, 2);
    assert.is(textOf(driver, seen.one(driver)), "the other direction");

    const second = pair();
    driver.send(second.near, memory.address, memory.size, 1, 3);
    driver.close(second.near);
    driver.close(near);
    assert.equal(seen.one(driver), ok(1, 3, 10));
    assert.is(read(second.far), "last words");
    assert.is(read(second.far), "");
    driver.run(0, seen);
    assert.is(libc.fcntl(second.near, 1, 0), -1, "the descriptor is free");
    seen.silence(driver);
    memory.close();
    libc.close(far);
    libc.close(second.far);
  });

  given("given bad descriptors, then shutdown and close say nothing", (driver, seen) => {
    driver.shutdown(-1, SHUT_WR);
    driver.close(1_000_000);
    seen.silence(driver);
  });

  given("given all buffers taken, then receives wait their turn and idle ones take none", (driver, seen) => {
    const { count } = driver.buffers;
    const ends = Array.from({ length: 3 * count }, pair);
    const idle = Array.from({ length: count }, pair);
    idle.forEach(({ near }, i) => {
      driver.recv(near, 1000 + i, 0);
    });
    ends.forEach(({ near }, i) => {
      driver.recv(near, i, 0);
    });
    seen.silence(driver);
    ends.forEach(({ far }, i) => {
      write(far, `data ${i}`);
    });
    const first = seen.take(driver, count);
    seen.silence(driver);
    const done = new Set<number>();
    let held = first;
    while (done.size < ends.length) {
      const [completion, ...rest] = held;
      assert.is(textOf(driver, completion!), `data ${completion!.slot}`);
      done.add(completion!.slot);
      held = done.size + rest.length < ends.length ? [...rest, seen.one(driver)] : rest;
    }
    seen.silence(driver);
    idle.forEach(({ far }, i) => {
      write(far, `idle ${i}`);
    });
    for (const completion of seen.take(driver, count)) {
      assert.is(textOf(driver, completion), `idle ${completion.slot - 1000}`);
    }
    for (const { near, far } of [...ends, ...idle]) {
      libc.close(near);
      libc.close(far);
    }
  });

  given(
    "given receives that wait for a buffer, then cancel, end of stream and reset reach them",
    (driver, seen) => {
      const hog = Array.from({ length: driver.buffers.count }, pair);
      hog.forEach(({ near, far }, i) => {
        write(far, "x");
        driver.recv(near, 100 + i, 0);
      });
      const held = seen.take(driver, hog.length);
      const [a, b, c, d] = [pair(), pair(), pair(), pair()] as const;
      for (const [slot, { near, far }] of [a, b, c, d].entries()) {
        driver.recv(near, slot, 0);
        if (slot < 2) write(far, `data ${slot}`);
      }
      seen.silence(driver);
      driver.cancel(0, 0);
      assert.equal(seen.one(driver), ok(0, 0, -ECANCELED));
      assert.is(read(a.near), "data 0");
      libc.shutdown(c.far, SHUT_WR);
      reset(d.far);
      driver.run(1, seen);
      driver.cancel(0, 0);
      for (const { bufferId } of held) driver.release(bufferId);
      const rest = seen.take(driver, 3).sort((x, y) => x.slot - y.slot);
      assert.is(textOf(driver, rest[0]!), "data 1");
      assert.equal(rest.slice(1), [ok(2, 0, 0), ok(3, 0, -ECONNRESET)]);
      for (const { near, far } of [...hog, a, b, c]) {
        libc.close(near);
        libc.close(far);
      }
      libc.close(d.near);
    },
  );

  given("given a buffer that is not taken, then release throws", (driver, seen) => {
    assert.throws(
      () => driver.release(0),
      (error: unknown) => error instanceof RangeError,
    );
    assert.throws(
      () => driver.release(SMALL.bufferCount),
      (error: unknown) => error instanceof RangeError,
    );
    const { near, far } = pair();
    write(far, "x");
    driver.recv(near, 0, 0);
    const { bufferId } = seen.one(driver);
    driver.release(bufferId);
    assert.throws(
      () => driver.release(bufferId),
      (error: unknown) => error instanceof RangeError,
    );
    libc.close(near);
    libc.close(far);
  });

  for (const flags of [0, SOCK_NONBLOCK]) {
    given(
      `given an eventfd (flags ${flags}), then wake-ups complete with their sum, again and again`,
      (driver, seen) => {
        const fd = libc.eventfd(0, flags);
        const add = (n: bigint) => libc.write(fd, new Uint8Array(BigUint64Array.of(n).buffer), 8);
        driver.wake(fd);
        seen.silence(driver);
        for (let round = 0; round < 5; round++) {
          add(2n);
          add(3n);
          assert.equal(seen.one(driver), { ...ok(WAKE_SLOT, 0, 5), more: true });
        }
        add(2n ** 40n);
        assert.is(seen.one(driver).result, 2 ** 31 - 1);
        driver.cancel(WAKE_SLOT, 0);
        seen.silence(driver);
        libc.close(fd);
      },
    );
  }

  given("given timeouts, then run ends after them, not before", (driver, seen) => {
    for (const timeoutMs of [0.3, 2.5, 30]) {
      const startMs = performance.now();
      assert.is(driver.run(timeoutMs, seen), 0);
      const tookMs = performance.now() - startMs;
      assert.ok(tookMs >= timeoutMs && tookMs < timeoutMs + 50, `${tookMs} for ${timeoutMs} ms`);
    }
    for (const timeoutMs of [0, -1]) {
      const startMs = performance.now();
      driver.run(timeoutMs, seen);
      assert.ok(performance.now() - startMs < 20);
    }
    const { near, far } = pair();
    write(far, "x");
    driver.recv(near, 0, 0);
    assert.is(driver.run(Infinity, seen), 1);
    libc.close(near);
    libc.close(far);
  });

  given(
    "given extreme slots and tags, then they come back unchanged, and worse ones throw",
    (driver, seen) => {
      const { near, far } = pair();
      const text = memoryOf("x");
      for (const [slot, tag] of [
        [0, 0],
        [SLOT_MAX, 2 ** 31 - 1],
        [1, -(2 ** 31)],
      ] as const) {
        driver.send(near, text.address, 1, slot, tag);
        assert.equal(seen.one(driver), ok(slot, tag, 1));
      }
      for (const [slot, tag] of [
        [-1, 0],
        [WAKE_SLOT, 0],
        [0.5, 0],
        [Number.NaN, 0],
        [0, 2 ** 31],
        [0, 0.5],
      ] as const) {
        assert.throws(
          () => driver.recv(near, slot, tag),
          (error: unknown) => error instanceof RangeError,
        );
      }
      seen.silence(driver);
      text.close();
      libc.close(near);
      libc.close(far);
    },
  );

  given(
    "given a handler that throws, then the remaining completions come with the next run",
    (driver, seen) => {
      const ends = [pair(), pair(), pair()];
      ends.forEach(({ near, far }, i) => {
        write(far, "x");
        driver.recv(near, i, 0);
      });
      const failing = {
        complete() {
          throw new Error("on purpose");
        },
      };
      assert.throws(() => driver.run(1000, failing), /on purpose/);
      assert.is(seen.take(driver, 2).length, 2);
      ends.forEach(({ near, far }) => {
        libc.close(near);
        libc.close(far);
      });
    },
  );

  given("given a handler that calls run or stop, then they throw", (driver) => {
    const { near, far } = pair();
    const text = memoryOf("x");
    driver.send(near, text.address, 1, 0, 0);
    let calls = 0;
    driver.run(1000, {
      complete() {
        assert.throws(() => driver.run(0, this), /handler/);
        assert.throws(() => driver.stop(), /handler/);
        calls++;
      },
    });
    assert.is(calls, 1);
    text.close();
    libc.close(near);
    libc.close(far);
  });

  given(
    "given tiny queues and many connections, then nothing gets lost",
    (driver, seen) => {
      const server = listen(512);
      const clients = Array.from({ length: 200 }, () => {
        const fd = newSocket();
        libc.connect(fd, loopback(server.port), 16);
        return fd;
      });
      for (const [slot] of clients.entries()) driver.accept(server.fd, slot, 0);
      const accepted = seen.take(driver, clients.length);
      assert.ok(accepted.every(({ result }) => result > 0));
      const text = memoryOf("ping");
      clients.forEach((fd, i) => {
        driver.send(fd, text.address, 4, i + 1, 1);
      });
      accepted.forEach(({ result }, i) => {
        driver.recv(result, i + 1, 2);
      });
      let sends = 0;
      let recvs = 0;
      while (sends + recvs < 2 * clients.length) {
        const completion = seen.one(driver);
        if (completion.tag === 1) {
          assert.is(completion.result, 4);
          sends++;
        } else {
          assert.is(textOf(driver, completion), "ping");
          recvs++;
        }
      }
      assert.equal([sends, recvs], [200, 200]);
      text.close();
      for (const fd of [server.fd, ...clients, ...accepted.map(({ result }) => result)]) libc.close(fd);
    },
    { entries: 2, bufferCount: 3, bufferSize: 64 },
  );

  test("given requests of every kind in progress, then stop ends them and the driver refuses more", () => {
    const driver = create(SMALL);
    const seen = new Recorder();
    const server = listen();
    const { near, far } = pair();
    const big = Memory.anonymous(2 ** 24);
    const hog = Array.from({ length: SMALL.bufferCount + 2 }, pair);
    const eventfd = libc.eventfd(0, 0);
    libc.setsockopt(near, SOL_SOCKET, SO_RCVBUF, Int32Array.of(4096), 4);
    driver.accept(server.fd, 0, 0);
    driver.send(near, big.address, big.size, 1, 0);
    driver.wake(eventfd);
    hog.forEach((ends, i) => {
      write(ends.far, "x");
      driver.recv(ends.near, 10 + i, 0);
    });
    seen.take(driver, SMALL.bufferCount);
    driver.recv(near, 1, 1); // queued, never submitted by run()
    driver.close(hog[0]!.near);
    const late = newSocket();
    libc.connect(late, loopback(server.port), 16);
    driver.stop();
    driver.stop();
    assert.is(libc.fcntl(hog[0]!.near, 1, 0), -1, "the close was carried out");
    for (const use of [
      () => driver.run(0, seen),
      () => driver.recv(near, 0, 0),
      () => driver.release(0),
      () => driver.close(near),
      () => driver.cancel(0, 0),
    ]) {
      assert.throws(use, /after stop/);
    }
    assert.equal(seen.seen, []);
    big.close();
    for (const fd of [server.fd, near, far, late, eventfd, hog[0]!.far]) libc.close(fd);
    for (const ends of hog.slice(1)) {
      libc.close(ends.near);
      libc.close(ends.far);
    }
  });

  test("given a driver in a worker thread, then it serves there and wakes on the eventfd", async () => {
    const server = listen();
    const eventfd = libc.eventfd(0, SOCK_NONBLOCK);
    const workerData = { listener: server.fd, eventfd, driver: index };
    const worker = startWorker(new URL("./driver-worker.ts", import.meta.url), workerData);
    const messages = on(worker, "message"); // keeps those that come together
    const message = async () => ((await messages.next()).value as unknown[])[0];
    const wake = () => libc.write(eventfd, new Uint8Array(BigUint64Array.of(1n).buffer), 8);
    assert.is(await message(), "ready");
    const client = newSocket();
    libc.connect(client, loopback(server.port), 16);
    const bytes = Buffer.alloc(16);
    for (const text of ["one", "two", "three"]) {
      write(client, text);
      assert.is(Number(libc.recv(client, bytes, 16, 0)), text.length); // blocks: the other thread answers
      assert.is(bytes.toString("latin1", 0, text.length), text);
    }
    wake();
    assert.is(await message(), 1);
    worker.postMessage("stop");
    wake();
    assert.is(await message(), 1);
    assert.is(await message(), "stopped");
    await worker.terminate();
    for (const fd of [client, server.fd, eventfd]) libc.close(fd);
  });

  test.run();
}
