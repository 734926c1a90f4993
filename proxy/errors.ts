/** Errors as users meet them: a stable code for programs, one line for people. */
import { PoolError } from "../pool/keeper-handle.ts";
import { DriverUnavailableError } from "./engine/worker-handle.ts";

/** What every public error's `code` begins with. */
export type AccelproxyCode = `ACCEL_${string}`;

/**
 * An error that accelproxy reports on purpose. `code` is stable and is what callers match; the message is one
 * line that says what failed, where, and what to do.
 */
export class AccelproxyError extends Error {
  override readonly name: string = "AccelproxyError";
  readonly code: AccelproxyCode;

  constructor(code: AccelproxyCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The proxy could not start. Nothing is left open behind it. */
export class StartError extends AccelproxyError {
  override readonly name = "StartError";
}

const LISTEN_FAILURES: Readonly<Record<string, readonly [code: AccelproxyCode, text: string]>> = {
  EADDRINUSE: ["ACCEL_ADDRESS_IN_USE", "is in use (stop what listens there, or choose another address)"],
  EADDRNOTAVAIL: ["ACCEL_ADDRESS_NOT_LOCAL", "is no address of this host (choose one that ip address shows)"],
  EAFNOSUPPORT: ["ACCEL_ADDRESS_FAMILY", "is of a family this kernel has switched off (use the other one)"],
  EACCES: [
    "ACCEL_ADDRESS_DENIED",
    "may not be bound by this user (choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE)",
  ],
  EPERM: ["ACCEL_ADDRESS_DENIED", "may not be bound by this user (a security module or cgroup refuses it)"],
  EMFILE: ["ACCEL_DESCRIPTORS", "cannot be bound: no descriptor is left (raise the open file limit)"],
  ENFILE: ["ACCEL_DESCRIPTORS", "cannot be bound: the system has no descriptor left (raise fs.file-max)"],
};

/**
 * The StartError for a failed socket(), bind() or listen(). `what` names the listener as the message begins,
 * e.g. "listener api"; `cause` is a SyscallError or an error of Node, both with the kernel's symbol in `code`.
 */
export function listenError(what: string, address: string, cause: unknown): StartError {
  const symbol = errorSymbol(cause);
  const [code, text] = LISTEN_FAILURES[symbol] ?? [
    "ACCEL_LISTEN",
    `cannot be bound: ${symbol} (see accelproxy doctor)`,
  ];
  return new StartError(code, `${what}: ${address} ${text}`, { cause });
}

/** The kernel's or Node's symbol of an error, e.g. "ECONNREFUSED"; its message when it has none. */
export function errorSymbol(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === "string" ? code : error.message;
}

/** What made a start fail, as users meet it. */
export function asStartError(error: unknown): StartError {
  if (error instanceof StartError) return error;
  if (error instanceof DriverUnavailableError) {
    return new StartError("ACCEL_DRIVER", `engine driver: ${error.message}`, { cause: error });
  }
  if (error instanceof PoolError) {
    const remedy = "(grant CAP_NET_ADMIN and CAP_NET_RAW, or set acceleration: preferred)";
    return new StartError("ACCEL_POOL", `half-open pool: ${error.message} ${remedy}`, { cause: error });
  }
  const message = error instanceof Error ? error.message : String(error);
  return new StartError("ACCEL_START", `cannot start: ${message} (see accelproxy doctor)`, { cause: error });
}
