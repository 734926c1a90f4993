// Tries to restore a connection and prints the code of what that throws; restore.test.ts takes its capabilities.
import { SyscallError } from "../../native/errno.ts";
import { fromHandshake } from "../../native/repair/image.ts";
import { restorePlan } from "../../native/repair/plan.ts";
import { restoreBySyscalls } from "../../native/repair/restore.ts";
import { loopback } from "./half-open.ts";

const address = loopback(4);
const image = fromHandshake(
  {
    local: { address, port: 40_000 },
    remote: { address, port: 40_001 },
    iss: 1,
    irs: 1,
    advmss: 1_460,
    synWindow: 64_240,
    mss: 1_460,
    snd_wnd: 65_160,
    snd_wscale: undefined,
    rcv_wscale: 0,
    sackPermitted: false,
    tsval: undefined,
  },
  [],
);
try {
  restoreBySyscalls(restorePlan(image));
  console.log("restored");
} catch (error) {
  if (!(error instanceof SyscallError)) throw error;
  console.log(error.code, error.syscall);
}
