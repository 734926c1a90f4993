/** The socket of the admin interface: private from its first moment, in place of one that a dead process left. */
import { chownSync, existsSync, lstatSync, rmSync, type Stats } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { type AdminBind, formatAdminBind } from "../../config/addresses.ts";
import { SyscallError } from "../../native/errno.ts";
import type { Fd } from "../../native/fd.ts";
import { listenTcp } from "../../native/net/tcp-socket.ts";
import { listenUnix } from "../../native/net/unix-socket.ts";
import { errorSymbol, listenError, StartError } from "../errors.ts";

const PROBE_TIMEOUT_MS = 1_000;
const BACKLOG = 64;

/**
 * Listens there for another user, who gets the path too; for AdminOptions.socket. Rejects with StartError as
 * AdminServer.start().
 */
export async function openAdminSocket(
  bind: AdminBind,
  { uid, gid }: { readonly uid: number; readonly gid: number },
): Promise<Fd> {
  if (bind.kind === "unix") await removeStaleSocket(bind.path);
  try {
    if (bind.kind === "tcp") return listenTcp({ address: bind.host, port: bind.port }, BACKLOG);
    const fd = privately(() => listenUnix(bind.path, BACKLOG));
    chownSync(bind.path, uid, gid);
    return fd;
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw bindError(bind, error);
  }
}

/** Removes the path as far as this user may; who is left behind is replaced by the next. */
export function removeSocket(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // The folder is another user's.
  }
}

/** bind(2) takes the socket's mode from the umask: 0600 from the first moment. */
export function privately<T>(bind: () => T): T {
  const umask = process.umask(0o177);
  try {
    return bind();
  } finally {
    process.umask(umask);
  }
}

const SOCKET_FAILURES: Readonly<Record<string, string>> = {
  ENOENT: "its folder does not exist (create it, or choose another path)",
  ENOTDIR: "its folder does not exist (create it, or choose another path)",
  EACCES: "this user may not create it (choose a folder this user may write to)",
  EROFS: "the file system is read-only (choose another path)",
};

/** The StartError for an admin interface that cannot listen there. */
export function bindError(bind: AdminBind, cause: unknown): StartError {
  const address = formatAdminBind(bind);
  // libuv says EACCES where bind(2) says ENOENT (uv_pipe_bind), so the folder is looked for.
  const isLost = bind.kind === "unix" && !existsSync(dirname(bind.path));
  const text = bind.kind === "unix" ? SOCKET_FAILURES[isLost ? "ENOENT" : errorSymbol(cause)] : undefined;
  if (text === undefined) return listenError("admin interface", address, cause);
  return new StartError("ACCEL_LISTEN", `admin interface: ${address}: ${text}`, { cause });
}

/** Removes what a dead process left. Rejects with StartError for a file that is no socket. */
export async function removeStaleSocket(path: string): Promise<void> {
  let found: Stats | undefined;
  try {
    found = lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw bindError({ kind: "unix", path }, error);
  }
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new StartError(
      "ACCEL_ADDRESS_IN_USE",
      `admin interface: unix:${path} is a file and no socket (remove it, or choose another path)`,
    );
  }
  const symbol = await connectOnce(path);
  if (symbol === "ECONNREFUSED") rmSync(path, { force: true });
}

/** "" when someone listens at `path`, else the symbol of the error. */
function connectOnce(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path, timeout: PROBE_TIMEOUT_MS });
    const end = (symbol: string) => {
      socket.destroy();
      resolve(symbol);
    };
    socket.once("connect", () => end(""));
    socket.once("timeout", () => end("ETIMEDOUT"));
    socket.once("error", (error) => end(errorSymbol(error)));
  });
}
