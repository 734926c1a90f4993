// Goal: bytes and descriptors arrive together, in order, however they are cut, and none is lost in silence.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { SyscallError } from "../../../native/errno.ts";
import { EventFd } from "../../../native/eventfd.ts";
import type { Fd } from "../../../native/fd.ts";
import { libc } from "../../../native/libc.ts";
import { type Received, RightsSocket, rightsPair } from "../../../native/net/unix-rights.ts";

const rights = suite<{ near: RightsSocket; far: RightsSocket }>("unix sockets that carry descriptors");
rights.before.each((context) => {
  const [near, far] = rightsPair();
  context.near = new RightsSocket(near);
  context.far = new RightsSocket(far);
});
rights.after.each(({ near, far }) => {
  near.close();
  far.close();
});

function receive(socket: RightsSocket): Received {
  const received = socket.receive();
  assert.ok(received, "something was received");
  return received;
}

/** Writes `value` to an eventfd and reads it from another descriptor of the same. */
function isSame(eventFd: EventFd, other: Fd, value: number): boolean {
  libc.write(eventFd.fd.number, new Uint8Array(new BigUint64Array([BigInt(value)]).buffer), 8);
  const counter = new Uint8Array(8);
  libc.read(other.number, counter, 8);
  return new DataView(counter.buffer).getUint32(0, true) === value;
}

rights(
  "given bytes with descriptors, then both arrive and the descriptors are the same files",
  ({ near, far }) => {
    const sent = Array.from({ length: 253 }, () => new EventFd());
    assert.is(
      near.send(
        Buffer.from("hello"),
        sent.map(({ fd }) => fd.number),
      ),
      5,
    );
    const { bytes, descriptors } = receive(far);
    assert.is(Buffer.from(bytes).toString(), "hello");
    assert.is(descriptors.length, 253);
    for (const [index, fd] of descriptors.entries()) {
      assert.ok(isSame(sent[index]!, fd, index + 1));
      assert.is(libc.fcntl(fd.number, 1, 0), 1, "close-on-exec (F_GETFD, FD_CLOEXEC)");
      fd.close();
      sent[index]!.close();
    }
  },
);

rights("given two sends with descriptors, then a receive does not mix them", ({ near, far }) => {
  const [first, second] = [new EventFd(), new EventFd()];
  near.send(Buffer.from("1"));
  near.send(Buffer.from("2"), [first.fd.number]);
  near.send(Buffer.from("3"), [second.fd.number]);
  const descriptors: Fd[] = [];
  let text = "";
  while (text.length < 3) {
    const received = receive(far);
    text += Buffer.from(received.bytes).toString();
    assert.ok(received.descriptors.length <= 1, "those of one send only");
    descriptors.push(...received.descriptors);
  }
  assert.is(text, "123");
  assert.ok(isSame(first, descriptors[0]!, 7));
  assert.ok(isSame(second, descriptors[1]!, 9));
  for (const fd of [...descriptors, first, second]) fd.close();
});

rights(
  "given more than there is room for, then what went out arrives and the rest is told",
  async ({ near, far }) => {
    const all = Buffer.alloc(1 << 20, "accelproxy");
    let [at, got] = [0, 0];
    while (at < all.length) {
      const sent = near.send(all.subarray(at));
      at += sent;
      if (sent > 0) continue;
      assert.not(await near.wait("output", 5));
      for (let received = far.receive(); received; received = far.receive()) {
        assert.equal(Buffer.from(received.bytes), all.subarray(got, got + received.bytes.length));
        got += received.bytes.length;
      }
      assert.ok(await near.wait("output", 1_000));
    }
    assert.ok(at === all.length && got > 0);
  },
);

rights("given nothing, then waiting ends in time; given something, at once", async ({ near, far }) => {
  assert.is(far.receive(), undefined);
  assert.not(await far.wait("input", 20));
  const waiting = far.wait("input", 5_000);
  near.send(Buffer.from("x"));
  assert.ok(await waiting);
});

rights(
  "given that the other side closed, then receiving says so and sending fails",
  async ({ near, far }) => {
    near.close();
    assert.ok(await far.wait("input", 1_000));
    assert.is(receive(far).bytes.length, 0);
    assert.throws(
      () => far.send(Buffer.from("x")),
      (error: unknown) => error instanceof SyscallError && error.code === "EPIPE",
    );
  },
);

rights("given too many descriptors, then nothing is sent", ({ near, far }) => {
  assert.throws(
    () =>
      near.send(
        Buffer.from("x"),
        Array.from({ length: 254 }, () => 0),
      ),
    /254 descriptors/,
  );
  assert.is(far.receive(), undefined);
});
rights.run();
