/**
 * `user:` for a process that was started as root: opens what only root may, then begins the program anew as that user,
 * in the same process (native/become.ts). What was opened is found by the descriptors' names (passed.ts):
 *
 *   NAME of a listener   its sockets              bpf/…    what the pool needs of bpf(2)
 *   own/admin            the admin interface's    file/…   the configuration file, and those it names: keys of TLS
 */
import { closeSync, existsSync, fchownSync, openSync } from "node:fs";
import type { Config } from "../config/schema.ts";
import { CAP_NET_ADMIN, CAP_NET_RAW } from "../native/abi/capability.ts";
import { type Account, findAccount } from "../native/account.ts";
import { formatEndpoint } from "../native/address.ts";
import { beginAs } from "../native/become.ts";
import { ipv6Exists } from "../pool/hearing.ts";
import { createKernelObjects } from "../pool/kernel-objects.ts";
import { openAdminSocket } from "./admin/socket.ts";
import { errorSymbol, listenError, StartError } from "./errors.ts";
import { httpFilePaths } from "./http/files.ts";
import { ListenerSockets } from "./listener-sockets.ts";
import { ADMIN_NAME, BPF_PREFIX, formatPassed, OURS, openFile, type Passed } from "./passed.ts";
import type { Command } from "./upgrade/predecessor.ts";
import { Workers } from "./workers.ts";

export interface BecomeOptions {
  readonly configFile: string;
  readonly config: Config;
  /** This program as it was started. */
  readonly command: Pick<Command, "program" | "script" | "args" | "env">;
  readonly passed: Passed;
}

/** Whether the process is still to become the user of its configuration. Throws StartError when it cannot. */
export function mustBecome({ user }: Config): boolean {
  if (user === null) return false;
  const { uid } = accountOf(user);
  const own = process.geteuid?.();
  if (own === uid) return false;
  if (own === 0) return true;
  throw new StartError(
    "ACCEL_USER",
    `user: only root can run as ${user}, and this is user ${own} (start as root, or as ${user} with the capabilities)`,
  );
}

/** Goes on as the user. Rejects with StartError before anything is lost; what fails later ends the process. */
export async function becomeUser({ configFile, config, command, passed }: BecomeOptions): Promise<never> {
  const account = accountOf(config.user!);
  assertReadable(account, [command.program, command.script]);
  const opened = [
    ...openListeners(config, passed, account),
    ...(await openAdmin(config, passed, account)),
    ...(config.acceleration === "off" ? [] : openBpf()),
    // What does not exist the user will miss as root would.
    ...[configFile, ...httpFilePaths(config, configFile)].filter((path) => existsSync(path)).map(openFile),
  ];
  const descriptors = [...opened, ...passed.takeAll()];
  try {
    return beginAs({
      account,
      capabilities: config.acceleration === "off" ? [] : [CAP_NET_ADMIN, CAP_NET_RAW],
      program: command.program,
      args: command.args,
      env: { ...command.env, [OURS]: formatPassed(descriptors) },
      keep: descriptors.map(([fd]) => fd),
    });
  } catch (error) {
    throw cannotBecome(account, error);
  }
}

function cannotBecome({ name }: Account, cause: unknown): StartError {
  const remedy = "start as root with CAP_SETUID and CAP_SETGID, in a user namespace that knows this user";
  return new StartError("ACCEL_USER", `user: cannot become ${name}: ${errorSymbol(cause)} (${remedy})`, {
    cause,
  });
}

function accountOf(name: string): Account {
  const account = findAccount(name);
  if (account !== undefined) return account;
  const remedy = `useradd --system --no-create-home ${name}, or name another`;
  throw new StartError("ACCEL_USER_UNKNOWN", `user: ${name} is no user of this host (${remedy})`);
}

/** Nobody is there to tell once the program has begun anew and cannot be read. */
function assertReadable(account: Account, files: readonly string[]): void {
  const { uid, gid, name } = account;
  try {
    process.setegid?.(gid);
    process.seteuid?.(uid);
    for (const file of files) closeSync(openSync(file, "r"));
  } catch (error) {
    const { path } = error as NodeJS.ErrnoException;
    if (path === undefined) throw cannotBecome(account, error);
    const remedy = "install accelproxy and node where that user can";
    throw new StartError("ACCEL_USER", `user: ${name} may not read ${path} (${remedy})`, { cause: error });
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}

type Opened = readonly (readonly [fd: number, name: string])[];

/** Owned by the user: the kernel lets only sockets of one user share a port, which more workers or a reload may want. */
function openListeners(config: Config, passed: Passed, { uid, gid }: Account): Opened {
  return config.listeners.flatMap((listener) => {
    const { name, bind, mode } = listener;
    const count = Workers.count(config, mode);
    const endpoint = { address: bind.host, port: bind.port };
    try {
      const given = passed.takeSockets(listener)?.map((fd) => fd.release());
      const descriptors = given ?? ListenerSockets.open(endpoint, count).descriptors;
      for (const fd of descriptors) fchownSync(fd, uid, gid);
      return descriptors.map((fd) => [fd, name] as const);
    } catch (error) {
      throw listenError(`listener ${name}`, formatEndpoint(endpoint), error);
    }
  });
}

async function openAdmin({ admin }: Config, passed: Passed, { uid, gid }: Account): Promise<Opened> {
  if (admin === null) return [];
  const given = passed.takeAdmin(admin.bind);
  if (given !== undefined) return [[given.fd.release(), given.name]];
  return [[(await openAdminSocket(admin.bind, { uid, gid })).release(), ADMIN_NAME]];
}

function openBpf(): Opened {
  const objects: Readonly<Record<string, number>> = createKernelObjects(ipv6Exists()) ?? {};
  return Object.entries(objects).map(([name, fd]) => [fd, `${BPF_PREFIX}${name}`] as const);
}
