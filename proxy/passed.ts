/**
 * Descriptors that were opened for this process by whoever started it: systemd or another that speaks
 * sd_listen_fds(3), or this very program before it became an ordinary user (become-user.ts) or was upgraded.
 */
import { openSync, readFileSync } from "node:fs";
import type { AdminBind } from "../config/addresses.ts";
import type { Listener } from "../config/schema.ts";
import type { Endpoint } from "../native/address.ts";
import { SyscallError } from "../native/errno.ts";
import { Fd } from "../native/fd.ts";
import { localEndpoint } from "../native/net/tcp-socket.ts";
import { isListening, unixPath } from "../native/net/unix-socket.ts";

/** How the environment names them: `OURS` is FD:NAME, separated by commas. */
export const OURS = "ACCELPROXY_DESCRIPTORS";
/** What its names of descriptors mean, but for listeners' own. */
export const ADMIN_NAME = "own/admin";
export const BPF_PREFIX = "bpf/";
const FILE_PREFIX = "file/";
const SYSTEMD = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] as const;
const SYSTEMD_FIRST = 3;

type Environment = Record<string, string | undefined>;
type Named = readonly [fd: number, name: string];

interface PassedDescriptor {
  readonly name: string;
  readonly fd: Fd;
  /** Where it listens, if it does. */
  readonly endpoint: Endpoint | undefined;
  readonly path: string | undefined;
}

/** Finds what the environment names, and takes those variables out of it: they are for this process alone. */
export function readPassed(environment: Environment, pid: number): readonly Named[] {
  const found = [...namedByUs(environment[OURS]), ...namedBySystemd(environment, pid)];
  for (const name of [OURS, ...SYSTEMD]) delete environment[name];
  return found;
}

/** The value of `OURS` for these. */
export function formatPassed(descriptors: readonly Named[]): string {
  return descriptors.map(([fd, name]) => `${fd}:${name}`).join(",");
}

/** A file to be passed, the descriptor the caller's. Throws as openSync(). */
export function openFile(path: string): Named {
  return [openSync(path, "r"), `${FILE_PREFIX}${encodeURIComponent(path)}`];
}

function namedByUs(value: string | undefined): readonly Named[] {
  const parts = (value ?? "").split(",").map((part) => /^(\d+):(.+)$/.exec(part));
  return parts.flatMap((match): Named[] => (match === null ? [] : [[Number(match[1]), match[2]!]]));
}

function namedBySystemd(environment: Environment, pid: number): readonly Named[] {
  const count = Number(environment.LISTEN_FDS);
  if (!Number.isInteger(count) || count < 1 || Number(environment.LISTEN_PID) !== pid) return [];
  const names = (environment.LISTEN_FDNAMES ?? "").split(":");
  return Array.from({ length: count }, (_, index) => [SYSTEMD_FIRST + index, names[index] || "unknown"]);
}

export class Passed {
  readonly #descriptors: PassedDescriptor[];

  /** Owns them from now on; what is no open descriptor is passed over. */
  constructor(named: readonly Named[]) {
    this.#descriptors = named.flatMap(([number, name]) => describe(number, name) ?? []);
  }

  /** The sockets of a listener, the taker's: by address, or by the listener's name. */
  takeSockets({ name, bind }: Listener): readonly Fd[] | undefined {
    const taken = this.#take(
      ({ name: given, endpoint }) =>
        endpoint !== undefined &&
        (given === name ||
          (bind.port !== 0 && endpoint.address === bind.host && endpoint.port === bind.port)),
    );
    return taken.length === 0 ? undefined : taken.map(({ fd }) => fd);
  }

  /** The socket of the admin interface, by address or path. */
  takeAdmin(bind: AdminBind): { readonly fd: Fd; readonly name: string } | undefined {
    const [taken] = this.#take(({ endpoint, path }) =>
      bind.kind === "unix"
        ? path === bind.path
        : endpoint !== undefined && endpoint.address === bind.host && endpoint.port === bind.port,
    );
    return taken;
  }

  /** What is in the files that openFile() opened, by path. */
  takeFiles(): ReadonlyMap<string, string> {
    const taken = this.#take(({ name }) => name.startsWith(FILE_PREFIX));
    return new Map(
      taken.map(({ name, fd }) => {
        const text = readFileSync(fd.number, "utf8");
        fd.close();
        return [decodeURIComponent(name.slice(FILE_PREFIX.length)), text];
      }),
    );
  }

  /** Those whose names begin so, by what follows. */
  takePrefixed(prefix: string): Readonly<Partial<Record<string, number>>> {
    const taken = this.#take(({ name }) => name.startsWith(prefix));
    return Object.fromEntries(taken.map(({ name, fd }) => [name.slice(prefix.length), fd.release()]));
  }

  /** All that is left, to be passed on. */
  takeAll(): readonly Named[] {
    return this.#take(() => true).map(({ name, fd }) => [fd.release(), name]);
  }

  /** Closes what nobody took; their names. */
  closeRest(): readonly string[] {
    return this.#take(() => true).map(({ name, fd }) => {
      fd.close();
      return name;
    });
  }

  #take(wanted: (descriptor: PassedDescriptor) => boolean): readonly PassedDescriptor[] {
    const taken = this.#descriptors.filter(wanted);
    for (const descriptor of taken) this.#descriptors.splice(this.#descriptors.indexOf(descriptor), 1);
    return taken;
  }
}

function describe(number: number, name: string): PassedDescriptor | undefined {
  try {
    const fd = new Fd(number);
    fd.setCloseOnExec();
    if (!isListening(number)) return { name, fd, endpoint: undefined, path: undefined };
    const path = unixPath(number);
    return { name, fd, path, endpoint: path === undefined ? localEndpoint(number) : undefined };
  } catch (error) {
    if (error instanceof SyscallError) return undefined; // EBADF: the environment is wrong
    throw error;
  }
}
