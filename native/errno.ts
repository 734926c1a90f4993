import koffi from "koffi";

// Reversed, so that EAGAIN wins over its alias EWOULDBLOCK.
// util.getSystemErrorName() is no substitute: it does not know EINPROGRESS.
const codes = new Map(
  Object.entries(koffi.os.errno)
    .reverse()
    .map(([code, n]) => [n, code]),
);

/** The symbol of a kernel error number, e.g. 104 → "ECONNRESET". */
export function errnoCode(errno: number): string {
  return codes.get(errno) ?? `E#${errno}`;
}

/** A system call that failed. `errno` is the kernel's value, positive; `code` its symbol. */
export class SyscallError extends Error {
  override readonly name = "SyscallError";
  readonly syscall: string;
  readonly errno: number;
  readonly code: string;
  readonly args: Readonly<Record<string, unknown>>;

  constructor(syscall: string, errno: number, args: Readonly<Record<string, unknown>>) {
    const code = errnoCode(errno);
    super(`${syscall}: ${code}`);
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
    this.args = args;
  }
}

/** Passes a non-negative result through, else throws. Call it on the syscall's own line. */
export function check(result: number, syscall: string, args: Readonly<Record<string, unknown>>): number {
  if (result >= 0) return result;
  throw new SyscallError(syscall, koffi.errno(), args);
}

/** The error number of the system call just made on this thread. Read it in the very next statement. */
export function lastErrno(): number {
  return koffi.errno();
}
