import { existsSync, readdirSync, readFileSync } from "node:fs";

/** CPU time of a process and its children, all threads, in µs. */
export interface CpuTime {
  readonly userUs: number;
  readonly systemUs: number;
}

/** What /proc says at one moment; cpuBetween() makes CPU time of two. */
export interface CpuReading extends CpuTime {
  /** The scheduler's own count, user and system together. */
  readonly exactUs: number;
}

/** USER_HZ, the unit of /proc/PID/stat: 100 on every architecture Node runs on. */
const TICK_US = 10_000;

/**
 * CPU time used so far by a process and all its living descendants. User and system are counted in ticks of 10 ms
 * (kernel/sched/cputime.c cputime_adjust), both together in nanoseconds (schedstat, where the kernel has it).
 * Throws ENOENT when the process is gone.
 */
export function readCpu(pid: number): CpuReading {
  const total = { userUs: 0, systemUs: 0, exactUs: 0 };
  for (const member of processTree(pid)) {
    // The command's name is in parentheses and may hold anything; the fields begin behind it.
    const stat = readFileSync(`/proc/${member}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [userUs, systemUs] = [Number(fields[11]) * TICK_US, Number(fields[12]) * TICK_US]; // 14 utime, 15 stime
    total.userUs += userUs;
    total.systemUs += systemUs;
    total.exactUs += scheduledUs(member) ?? userUs + systemUs;
  }
  return total;
}

/** CPU time between two readings: the exact sum, divided as the ticks are. */
export function cpuBetween(before: CpuReading, after: CpuReading): CpuTime {
  const exactUs = after.exactUs - before.exactUs;
  const userUs = after.userUs - before.userUs;
  const ticksUs = userUs + after.systemUs - before.systemUs;
  const ofUser = ticksUs > 0 ? (exactUs * userUs) / ticksUs : 0;
  return { userUs: ofUser, systemUs: exactUs - ofUser };
}

/** What the living threads of a process ran, by /proc/PID/task/TID/schedstat; undefined where there is none. */
function scheduledUs(pid: number): number | undefined {
  if (!existsSync(`/proc/${pid}/schedstat`)) return undefined;
  return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => {
    try {
      return (
        sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ", 1)[0]) / 1e3
      );
    } catch {
      return sum; // the thread ended meanwhile
    }
  }, 0);
}

/** A process and its living descendants, by /proc/PID/task/TID/children. */
function processTree(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim();
  return [pid, ...children.split(" ").flatMap((child) => (child === "" ? [] : processTree(Number(child))))];
}
