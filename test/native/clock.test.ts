// Goal: every thread's clock is CLOCK_MONOTONIC, as kernel time stamps are. Method: read both in turn many times; the
// smallest difference is that of the clocks, since a pause between two readings can only add to it.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { nowMs } from "../../native/clock.ts";
import { libc } from "../../native/libc.ts";
import { Memory } from "../../native/memory.ts";

const CLOCK_MONOTONIC = 1;

const clock = suite("clock");

clock("given CLOCK_MONOTONIC, then nowMs() is the same within 50 µs", () => {
  const timespec = Memory.anonymous(4096);
  const apartMs = Array.from({ length: 1_000 }, () => {
    libc.clockGettimeAt(CLOCK_MONOTONIC, timespec.address);
    const kernelMs = timespec.view.getUint32(0, true) * 1e3 + timespec.view.getUint32(8, true) / 1e6;
    return Math.abs(nowMs() - kernelMs);
  });
  timespec.close();
  assert.ok(Math.min(...apartMs) < 0.05, `${Math.min(...apartMs)} ms apart`);
});

clock.run();
