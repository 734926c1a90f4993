// From include/uapi/linux/prctl.h.
export const PR_SET_TIMERSLACK = 29;
