import { readFileSync } from "node:fs";

/** CPU time of a process and its children, all threads, in µs. */
export interface CpuTime {
  readonly userUs: number;
  readonly systemUs: number;
}

/** USER_HZ, the unit of /proc/PID/stat: 100 on every architecture Node runs on. */
const TICK_US = 10_000;

/**
 * CPU time used so far by a process and all its living descendants. The kernel counts in ticks of 10 ms and
 * scales them to the exact sum (kernel/sched/cputime.c cputime_adjust): measure over seconds.
 * Throws ENOENT when the process is gone.
 */
export function cpuTimeOf(pid: number): CpuTime {
  const total = { userUs: 0, systemUs: 0 };
  for (const member of processTree(pid)) {
    // The command's name is in parentheses and may hold anything; the fields begin behind it.
    const stat = readFileSync(`/proc/${member}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    total.userUs += Number(fields[11]) * TICK_US; // field 14, utime
    total.systemUs += Number(fields[12]) * TICK_US; // field 15, stime
  }
  return total;
}

export function cpuBetween(before: CpuTime, after: CpuTime): CpuTime {
  return { userUs: after.userUs - before.userUs, systemUs: after.systemUs - before.systemUs };
}

/** A process and its living descendants, by /proc/PID/task/TID/children. */
function processTree(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
  return [pid, ...children.split(" ").flatMap((child) => (child === "" ? [] : processTree(Number(child))))];
}
