import { libc } from "./libc.ts";

/**
 * Ends the process at once, without exit handlers and without waiting for any thread. process.exit() waits for
 * worker threads, for ever when one is stuck in a system call. Buffered output is lost.
 * Source: _exit(2).
 */
export function exitNow(code: number): void {
  libc._exit(code);
}
