import { PR_SET_TIMERSLACK } from "./abi/prctl.ts";
import { SCHED_PARAM_SIZE, SCHED_RR } from "./abi/sched.ts";
import { check } from "./errno.ts";
import { libc } from "./libc.ts";

/** Lets this thread's timers fire up to `nanoseconds` late (Linux defaults to 50,000; 1 is the least). */
export function setTimerSlack(nanoseconds: number): void {
  check(libc.prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0), "prctl PR_SET_TIMERSLACK", { nanoseconds });
}

/**
 * Puts this thread ahead of every ordinary one, at `priority` 1 to 99 (SCHED_RR; processes it starts inherit
 * it). Throws SyscallError EPERM without CAP_SYS_NICE or where the control group has no real-time share.
 * Source: kernel/sched/syscalls.c do_sched_setscheduler().
 */
export function setRoundRobin(priority: number): void {
  const param = Buffer.alloc(SCHED_PARAM_SIZE);
  param.writeInt32LE(priority);
  check(libc.sched_setscheduler(0, SCHED_RR, param), "sched_setscheduler", { policy: "SCHED_RR", priority });
}
