// From include/uapi/linux/sched.h.
export const CLONE_NEWNET = 0x40000000;
export const SCHED_RR = 2;

// struct sched_param: sched_priority int. 4 bytes.
export const SCHED_PARAM_SIZE = 4;
