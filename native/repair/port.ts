/** Whether a local port was chosen by the kernel at connect, which no option tells. */
import { EADDRINUSE, EADDRNOTAVAIL } from "../abi/errno.ts";
import { SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import type { Held } from "./held.ts";
import type { TcpImage } from "./image.ts";
import { choosingPlan } from "./plan.ts";
import { restoreBySyscalls } from "./restore.ts";
import { readEnd } from "./socket-reader.ts";

/**
 * Tries it out: a port that was bound is not given to a connect() that lets the kernel choose, one that the kernel
 * chose is, for another destination. No packet leaves. False for a port the kernel does not choose from. Costs as
 * much as a restore. Throws SyscallError EPERM without CAP_NET_ADMIN.
 */
export function isPortChosen({ local, remote }: Pick<Held, "local" | "remote">): boolean {
  const elsewhere: Pick<TcpImage, "local" | "remote"> = {
    local,
    remote: { ...remote, port: remote.port ^ 1 },
  };
  try {
    const fd = restoreBySyscalls(choosingPlan(elsewhere));
    const { port } = readEnd(fd, "local");
    libc.close(fd);
    return port === local.port;
  } catch (error) {
    if (error instanceof SyscallError && [EADDRINUSE, EADDRNOTAVAIL].includes(error.errno)) return false;
    throw error;
  }
}
