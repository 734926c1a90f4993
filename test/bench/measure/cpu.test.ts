// Goal: CPU time of a process is what it used, to the µs, however it divides between user and system.
// Method: this very process spins for as long as its own clock says.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { cpuBetween, readCpu } from "../../../bench/measure/cpu.ts";

const cpu = suite("cpu");

cpu("given a process that used 100 ms, then that is told", () => {
  const before = readCpu(process.pid);
  const used = process.cpuUsage();
  const spentUs = (): number => {
    const { user, system } = process.cpuUsage(used);
    return user + system;
  };
  while (spentUs() < 100_000);
  const { userUs, systemUs } = cpuBetween(before, readCpu(process.pid));
  const errorUs = userUs + systemUs - spentUs();
  assert.ok(Math.abs(errorUs) < 5_000, `${errorUs} µs`);
});

cpu("given readings, then the ticks only say how the exact sum divides", () => {
  const before = { userUs: 10_000, systemUs: 0, exactUs: 4_000 };
  const after = { userUs: 20_000, systemUs: 30_000, exactUs: 41_000 };
  assert.equal(cpuBetween(before, after), { userUs: 9_250, systemUs: 27_750 });
});

cpu("given no whole tick, then all counts as system", () => {
  const zero = { userUs: 0, systemUs: 0, exactUs: 0 };
  assert.equal(cpuBetween(zero, { ...zero, exactUs: 900 }), { userUs: 0, systemUs: 900 });
});
cpu.run();
