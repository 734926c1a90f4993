/**
 * What the service manager is told: sd_notify(3) and sd_watchdog_enabled(3), as a datagram each. Without one, or with
 * one that does not listen, nothing happens.
 */
import type { Logger } from "pino";
import { nowMs } from "../native/clock.ts";
import { SyscallError } from "../native/errno.ts";
import { sendDatagram } from "../native/net/unix-socket.ts";

export interface Manager {
  readonly socket: string;
  /** It restarts a process that is silent for so long. */
  readonly watchdogMs: number | undefined;
}

/** Finds it in the environment. WATCHDOG_PID is taken out: another process of ours is meant as well. */
export function readManager(
  environment: Record<string, string | undefined>,
  pid: number,
): Manager | undefined {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: limit, WATCHDOG_PID: watched } = environment;
  delete environment.WATCHDOG_PID;
  if (socket === undefined || !/^[/@]./.test(socket)) return undefined;
  const isWatched = Number(limit) > 0 && (watched === undefined || Number(watched) === pid);
  return { socket, watchdogMs: isWatched ? Number(limit) / 1e3 : undefined };
}

export class ServiceManager {
  readonly #manager: Manager | undefined;
  readonly #log: Logger;
  #timer: NodeJS.Timeout | undefined;
  #isUnheard = false;

  constructor(manager: Manager | undefined, log: Logger) {
    this.#manager = manager;
    this.#log = log;
  }

  ready(status: string): void {
    this.#say(["READY=1", `STATUS=${status}`]);
  }

  /** ready() follows, whatever comes of it. */
  reloading(): void {
    this.#say(["RELOADING=1", `MONOTONIC_USEC=${Math.round(nowMs() * 1e3)}`, "STATUS=reloading"]);
  }

  stopping(status: string): void {
    this.#say(["STOPPING=1", `STATUS=${status}`]);
  }

  /** From now on another process is the service, which says the rest. */
  succeeded(pid: number): void {
    this.close();
    this.#say([`MAINPID=${pid}`]);
  }

  /** Keeps the watchdog quiet as long as `answers` resolves with true, which has half of the limit for it. */
  watch(answers: (limitMs: number) => Promise<boolean>): void {
    const { watchdogMs } = this.#manager ?? {};
    if (watchdogMs === undefined) return;
    const beat = async (): Promise<void> => {
      if (await answers(watchdogMs / 2)) this.#say(["WATCHDOG=1"]);
      else this.#log.error({ limitMs: watchdogMs / 2 }, "a thread does not answer, the watchdog will end us");
    };
    this.#timer = setInterval(() => void beat(), watchdogMs / 2);
    this.#timer.unref();
    void beat();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #say(lines: readonly string[]): void {
    if (this.#manager === undefined) return;
    try {
      sendDatagram(this.#manager.socket, lines.join("\n"));
    } catch (err) {
      if (!(err instanceof SyscallError)) throw err;
      if (!this.#isUnheard) this.#log.warn({ err }, "the service manager does not hear us");
      this.#isUnheard = true;
    }
  }
}
