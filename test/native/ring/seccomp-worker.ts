// A thread whose io_uring_setup() fails with the given error number, as under a container's seccomp profile.
import { parentPort, workerData } from "node:worker_threads";
import { probeRing } from "../../../native/ring/probe.ts";
import { Ring } from "../../../native/ring/ring.ts";
import { RingUnavailableError } from "../../../native/ring/unavailable.ts";
import { refuseIoUring } from "./seccomp.ts";

const { errno } = workerData as { errno: number };
refuseIoUring(errno);

let thrown: unknown;
try {
  new Ring({ entries: 8 }).close();
} catch (error) {
  thrown = error;
}
const probe = probeRing();
parentPort!.postMessage(
  thrown instanceof RingUnavailableError
    ? { reason: thrown.reason, message: thrown.message, code: thrown.code, probe }
    : { reason: String(thrown) },
);
