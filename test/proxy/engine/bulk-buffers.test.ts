// Goal: bulk receives get large buffers while there are any, and are served like others when there are none.
// Method: both drivers over socket pairs, two large buffers, ids and contents checked.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { libc } from "../../../native/libc.ts";
import type { Driver } from "../../../proxy/engine/driver.ts";
import { createEpollDriver } from "../../../proxy/engine/epoll-driver.ts";
import { createIoUringDriver } from "../../../proxy/engine/io-uring-driver.ts";
import { pair, Recorder } from "./loopback.ts";

const ORDINARY_BYTES = 1024;
const SIZES = {
  entries: 16,
  bufferCount: 4,
  bufferSize: ORDINARY_BYTES,
  bulk: { count: 2, keep: 2, size: 65_536 },
};
const MESSAGE = Buffer.alloc(40_000, "0123456789abcdef");
const DRIVERS: readonly (readonly [string, () => Driver])[] = [
  ["epoll", () => createEpollDriver(SIZES)],
  ["io_uring", () => createIoUringDriver(SIZES)],
];

const bulk = suite("driver: bulk buffers");

for (const [name, create] of DRIVERS) {
  bulk(
    `${name}: given three bulk receives and two large buffers, then the third gets an ordinary one`,
    () => {
      const driver = create();
      const seen = new Recorder();
      const ends = [pair(), pair(), pair()];
      for (const { far } of ends) libc.write(far, MESSAGE, MESSAGE.length);
      ends.forEach(({ near }, slot) => {
        driver.recv(near, slot, 0, true);
      });
      const completions = seen.take(driver, 3);
      const results = completions.map(({ result }) => result).sort((a, b) => b - a);
      assert.equal(results, [MESSAGE.length, MESSAGE.length, ORDINARY_BYTES]);
      for (const { bufferId, result } of completions) {
        assert.ok(MESSAGE.subarray(0, result).equals(driver.buffers.bytes(bufferId, result)));
      }
      assert.is(new Set(completions.map(({ bufferId }) => bufferId)).size, 3);
      for (const { bufferId } of completions) driver.release(bufferId);
      driver.stop();
      for (const { near, far } of ends) {
        libc.close(near);
        libc.close(far);
      }
    },
  );

  bulk(`${name}: given large buffers given back, then they are used again`, () => {
    const driver = create();
    const seen = new Recorder();
    const { near, far } = pair();
    for (let round = 0; round < 20; round++) {
      libc.write(far, MESSAGE, MESSAGE.length);
      driver.recv(near, 0, 0, true);
      const { result, bufferId } = seen.one(driver);
      assert.is(result, MESSAGE.length);
      driver.release(bufferId);
    }
    driver.stop();
    libc.close(near);
    libc.close(far);
  });
}
bulk.run();
