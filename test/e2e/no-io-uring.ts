// Runs a command whose io_uring_setup() fails with EPERM, as under a container's seccomp profile. The filter is
// this thread's, and what it starts inherits it.
import { spawnSync } from "node:child_process";
import { EPERM } from "../../native/abi/errno.ts";
import { refuseIoUring } from "../native/ring/seccomp.ts";

const [command = "", ...args] = process.argv.slice(2);
refuseIoUring(EPERM);
const { status } = spawnSync(command, args, { stdio: "inherit" });
process.exitCode = status ?? 1;
