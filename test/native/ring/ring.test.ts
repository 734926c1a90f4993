// Goal: the queues lose and reorder nothing when they are full, and the buffer ring keeps account.
// Method: datagrams on the loopback, where one receive is one datagram, so every request can be told apart.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { IORING_CQE_BUFFER_SHIFT } from "../../../native/abi/io_uring.ts";
import { AF_INET, SOCK_CLOEXEC, SOCK_DGRAM } from "../../../native/abi/socket.ts";
import { check } from "../../../native/errno.ts";
import { libc } from "../../../native/libc.ts";
import { Memory } from "../../../native/memory.ts";
import { BufferRing } from "../../../native/ring/buffers.ts";
import { Ring } from "../../../native/ring/ring.ts";
import type { RingFeature } from "../../../native/ring/setup.ts";
import { RingUnavailableError } from "../../../native/ring/unavailable.ts";

/** A UDP socket connected to itself. */
function echoSocket(): number {
  const fd = check(libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket", {});
  const address = Uint8Array.of(AF_INET, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  check(libc.bind(fd, address, 16), "bind", {});
  check(libc.getsockname(fd, address, Uint32Array.of(16)), "getsockname", {});
  check(libc.connect(fd, address, 16), "connect", {});
  return fd;
}

const REQUESTS = 10_000;
const WITHOUTS: readonly (readonly RingFeature[])[] = [
  [],
  ["IORING_SETUP_CQSIZE"],
  ["IORING_SETUP_NO_SQARRAY", "IORING_SETUP_DEFER_TASKRUN", "IORING_SETUP_SUBMIT_ALL"],
];

const queues = suite("ring: queues");
for (const without of WITHOUTS) {
  const title = without.length === 0 ? "every feature" : `no ${without.join(", ")}`;

  queues(
    `given ${REQUESTS} sends queued at once and a tiny ring with ${title}, then each completes once`,
    () => {
      const ring = new Ring({ entries: 4, without });
      const fd = echoSocket();
      const byte = Memory.anonymous(1);
      for (let i = 0; i < REQUESTS; i++) ring.reserve().send(fd, byte.address, 1, i);
      const seen = new Uint8Array(REQUESTS);
      for (let done = 0; done < REQUESTS; ) {
        assert.is(ring.enter(1000), "done");
        for (let n = ring.completions.available; n > 0; n--, done++) {
          ring.completions.next();
          assert.is(ring.completions.result, 1);
          assert.is(seen[ring.completions.userData]!++, 0);
        }
      }
      assert.is(ring.enter(0), "done");
      assert.is(ring.completions.available, 0);
      ring.close();
      byte.close();
      libc.close(fd);
    },
  );

  queues(
    `given ${REQUESTS} waiting receives with ${title}, then each completes once, with a datagram of its socket`,
    () => {
      const ring = new Ring({ entries: 64, without });
      const buffers = new BufferRing(ring.fd, 3, 32, 64);
      // Few enough per socket that none is woken in vain 128 times: then the kernel gives it to a worker thread.
      const sockets = Array.from({ length: REQUESTS / 40 }, echoSocket);
      for (let i = 0; i < REQUESTS; i++) ring.reserve().recv(sockets[i % sockets.length]!, 3, false, i);
      ring.flush();
      const number = new Uint32Array(1);
      const bytes = new Uint8Array(number.buffer);
      const requests = new Uint8Array(REQUESTS);
      for (let done = 0; done < REQUESTS; ) {
        for (let i = 0; i < 16; i++) {
          number[0] = done + i;
          check(libc.sendto(sockets[number[0] % sockets.length]!, bytes, 4, 0, null, 0), "sendto", {});
        }
        for (let got = 0; got < 16; ) {
          assert.is(ring.enter(1000), "done");
          for (let n = ring.completions.available; n > 0; n--, got++, done++) {
            ring.completions.next();
            const { result, flags, userData } = ring.completions;
            const id = flags >>> IORING_CQE_BUFFER_SHIFT;
            buffers.take(id);
            assert.is(result, 4);
            assert.is(requests[userData]!++, 0);
            const datagram = buffers.memory.view.getUint32(id * 64, true);
            assert.is(datagram % sockets.length, userData % sockets.length);
            buffers.release(id);
          }
        }
      }
      assert.is(buffers.free, 32);
      ring.close();
      buffers.close();
      for (const fd of sockets) libc.close(fd);
    },
  );
}

queues("given stashed completions, then they are read first and in order", () => {
  const ring = new Ring({ entries: 8 });
  const fd = echoSocket();
  const byte = Memory.anonymous(1);
  const queue = (from: number) => {
    for (let i = from; i < from + 5; i++) ring.reserve().send(fd, byte.address, 1, i);
    ring.flush();
  };
  queue(0);
  ring.completions.stash();
  queue(5);
  ring.completions.next();
  assert.is(ring.completions.userData, 0);
  ring.completions.stash();
  queue(10);
  assert.is(ring.completions.available, 14);
  for (let i = 1; i < 15; i++) {
    ring.completions.next();
    assert.is(ring.completions.userData, i);
  }
  assert.is(ring.completions.available, 0);
  ring.close();
  byte.close();
  libc.close(fd);
});

queues("given an entry that still waits, then hasPendingOn knows its descriptor", () => {
  const ring = new Ring({ entries: 4 });
  const fd = echoSocket();
  const byte = Memory.anonymous(1);
  for (let round = 0; round < 10; round++) {
    assert.is(ring.submissions.hasPendingOn(fd), false);
    ring.reserve().send(fd, byte.address, 1, 0);
    assert.equal([ring.submissions.hasPendingOn(fd), ring.submissions.hasPendingOn(fd + 1)], [true, false]);
    ring.flush();
  }
  ring.close();
  byte.close();
  libc.close(fd);
});
queues.run();

const buffers = suite("ring: buffers");
for (const [count, size] of [
  [0, 64],
  [32769, 64],
  [1.5, 64],
  [1, 0],
  [1, 2 ** 31],
] as const) {
  buffers(`given ${count} buffers of ${size} bytes, then RangeError`, () => {
    const ring = new Ring({ entries: 1 });
    assert.throws(
      () => new BufferRing(ring.fd, 0, count, size),
      (error: unknown) => error instanceof RangeError,
    );
    ring.close();
  });
}

buffers("given 32768 buffers, the most there can be, then each is handed over once", () => {
  const ring = new Ring({ entries: 64 });
  const all = new BufferRing(ring.fd, 0, 32768, 16);
  const fd = echoSocket();
  for (let i = 0; i < 32768; i++) {
    check(libc.sendto(fd, Uint8Array.of(i), 1, 0, null, 0), "sendto", {});
    ring.reserve().recv(fd, 0, false, i);
    assert.is(ring.enter(1000), "done");
    ring.completions.next();
    all.take(ring.completions.flags >>> IORING_CQE_BUFFER_SHIFT);
  }
  assert.is(all.free, 0);
  ring.close();
  all.close();
  libc.close(fd);
});

buffers(
  "given 4 of 32 buffers in the ring, then all can be taken, and those given back last come first",
  () => {
    const ring = new Ring({ entries: 8 });
    const some = new BufferRing(ring.fd, 0, 32, 16, 4);
    const fd = echoSocket();
    const take = (): number => {
      check(libc.sendto(fd, Uint8Array.of(1), 1, 0, null, 0), "sendto", {});
      ring.reserve().recv(fd, 0, false, 0);
      assert.is(ring.enter(1000), "done");
      ring.completions.next();
      const id = ring.completions.flags >>> IORING_CQE_BUFFER_SHIFT;
      some.take(id);
      return id;
    };
    const all = Array.from({ length: 32 }, take);
    assert.equal(
      [...all].sort((a, b) => a - b),
      Array.from({ length: 32 }, (_, id) => id),
    );
    assert.is(some.free, 0);
    for (const id of all) some.release(id);
    assert.is(some.free, 32);
    const used = new Set<number>();
    for (let i = 0; i < 200; i++) {
      const id = take();
      used.add(id);
      some.release(id);
    }
    assert.is(used.size, 5, "the four in the ring and the one that takes turns with them");
    ring.close();
    some.close();
    libc.close(fd);
  },
);

buffers("given more buffers to keep than there are, then RangeError", () => {
  const ring = new Ring({ entries: 1 });
  assert.throws(
    () => new BufferRing(ring.fd, 0, 4, 64, 5),
    (error: unknown) => error instanceof RangeError,
  );
  ring.close();
});

buffers("given the group in use, then the error says what the kernel answered", () => {
  const ring = new Ring({ entries: 1 });
  const first = new BufferRing(ring.fd, 0, 1, 64);
  assert.throws(
    () => new BufferRing(ring.fd, 0, 1, 64),
    (error: unknown) => error instanceof RingUnavailableError && error.message.includes("EEXIST"),
  );
  ring.close();
  first.close();
});
buffers.run();
