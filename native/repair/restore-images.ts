/** restore: images become sockets again. */
import { EADDRINUSE, EADDRNOTAVAIL, EPERM } from "../abi/errno.ts";
import { SyscallError } from "../errno.ts";
import { libc } from "../libc.ts";
import { type Held, nameOf } from "./held.ts";
import type { TcpImage } from "./image.ts";
import type { RepairKit } from "./kit.ts";
import { optionRow } from "./options.ts";
import { restorePlan } from "./plan.ts";
import { RepairError, type RepairErrorCode } from "./repair-error.ts";
import { restoreBySyscalls } from "./restore.ts";
import { readEnd } from "./socket-reader.ts";

/**
 * Builds the sockets of live images, in repair mode and in the guard, so that nothing is heard of them before
 * resume(). `socketFlags` joins SOCK_CLOEXEC. The result has for each image the socket, whose descriptor is the
 * caller's, or why there is none; that one has left nothing behind, in the guard neither. RepairError:
 * ACCEL_REPAIR_ADDRESS (the local address is not of this host, or the connection exists), ACCEL_REPAIR_DENIED
 * (CAP_NET_ADMIN, or CAP_NET_RAW after a FIN), ACCEL_REPAIR_FAILED. Throws GuardError, RangeError for a half-open.
 */
export function restore(
  kit: RepairKit,
  images: readonly TcpImage[],
  socketFlags = 0,
): (Held | RepairError)[] {
  kit.guard.add(images);
  const results = images.map((image): Held | RepairError => {
    try {
      const plan = restorePlan(withoutDefaults(kit, image));
      const made = restoreBySyscalls(plan, socketFlags, kit.feed);
      const fd = onItsPort(kit, image, made, socketFlags);
      const { local, remote, live } = image;
      return {
        fd,
        local,
        remote,
        later: live!.options.filter(({ name }) => optionRow(name)?.moment === "repair"),
      };
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      return failure(image, error);
    }
  });
  kit.guard.remove(images.filter((_, index) => results[index] instanceof RepairError));
  return results;
}

/**
 * The kernel ignores a wish for a port that is not one of those it chooses from. Such a connection gets its port
 * by bind(). Nothing has left for the wrong one: the socket is in repair mode.
 */
function onItsPort(kit: RepairKit, image: TcpImage, fd: number, socketFlags: number): number {
  const { live, local } = image;
  if (!live?.portChosen || readEnd(fd, "local").port === local.port) return fd;
  libc.close(fd);
  const bound = { ...image, live: { ...live, portChosen: false } };
  return restoreBySyscalls(restorePlan(bound), socketFlags, kit.feed);
}

/** The image without the options that every new socket of this host has anyway. */
function withoutDefaults(kit: RepairKit, image: TcpImage): TcpImage {
  const { live, remote } = image;
  if (live === undefined) throw new RangeError("a half-open is restored by its plan alone");
  const options = kit.needed(remote.address.length === 4 ? 4 : 6, live.options);
  return { ...image, live: { ...live, options } };
}

function failure(image: TcpImage, error: SyscallError): RepairError {
  const { errno, syscall, code } = error;
  const name = nameOf(image);
  const fail = (kind: RepairErrorCode, why: string): RepairError =>
    new RepairError(kind, `${name} cannot be restored: ${why}`, { cause: error });
  if (errno === EPERM)
    return fail("ACCEL_REPAIR_DENIED", "not permitted (grant CAP_NET_ADMIN and CAP_NET_RAW)");
  if (errno === EADDRNOTAVAIL && syscall === "bind") {
    return fail(
      "ACCEL_REPAIR_ADDRESS",
      "its local address is not of this host (add it, or set IP_TRANSPARENT)",
    );
  }
  if (errno === EADDRNOTAVAIL || errno === EADDRINUSE) {
    return fail("ACCEL_REPAIR_ADDRESS", "the host has such a connection (close it first)");
  }
  return fail("ACCEL_REPAIR_FAILED", `${syscall}: ${code}`);
}
