/** A worker as the main thread sees it: one of the engine's, or one of ../http, which has the same messages. */
import { Worker } from "node:worker_threads";
import { wakeEventFd } from "../../native/eventfd.ts";
import type { Logger } from "../../pool/logger.ts";
import type { HttpWorkerData } from "../http/messages.ts";
import type { FromWorker, ListenerShare, ToWorker, Visit, WorkerData } from "./messages.ts";
import type { SessionReport } from "./session-report.ts";

/** The worker cannot run: `message` says what this kernel or container lacks and the remedy. */
export class DriverUnavailableError extends Error {
  override readonly name = "DriverUnavailableError";
}

/** Who is told what a worker says. */
export interface WorkerListener {
  readonly log: Logger;
  /** It ended without having been drained: our bug. */
  readonly onCrash: (error: Error) => void;
  /** Of sessions that ended; undefined: nobody traces them. */
  readonly onSession: ((report: SessionReport) => void) | undefined;
  /** Of clients of transparent listeners whose destination has no pool. */
  readonly onVisited: (upstream: string, visit: Visit) => void;
}

type Departed = Extract<FromWorker, { kind: "departed" }>;

export class WorkerHandle {
  readonly driver: string;
  /** Why the driver is not the better one, if it is not. */
  readonly fallback: string | undefined;
  readonly #worker: Worker;
  readonly #log: Logger;
  readonly #wakeFd: number;
  readonly #onVisited: WorkerListener["onVisited"];
  readonly #listening = new Map<number, () => void>();
  readonly #unlistened = new Map<number, () => void>();
  #exited: Promise<void>;
  #onPong: (() => void) | undefined;
  #onDeparted: ((departed: Departed) => void) | undefined;
  #running = true;
  readonly #onSession: WorkerListener["onSession"];

  private constructor(
    worker: Worker,
    started: FromWorker & { kind: "started" },
    { log, onSession, onVisited }: WorkerListener,
  ) {
    this.#onVisited = onVisited;
    this.#worker = worker;
    this.#log = log;
    this.#onSession = onSession;
    this.#wakeFd = started.wakeFd;
    this.driver = started.driver;
    this.fallback = started.fallback;
    this.#exited = new Promise((resolve) =>
      worker.once("exit", () => {
        resolve();
        this.#onPong?.();
      }),
    );
    worker.on("message", (message: FromWorker) => this.#onMessage(message));
  }

  /** Starts the thread of a script. Rejects with DriverUnavailableError. */
  static async start(
    script: URL,
    data: WorkerData | HttpWorkerData,
    listener: WorkerListener,
  ): Promise<WorkerHandle> {
    const worker = new Worker(script, { workerData: data });
    const started = await new Promise<FromWorker>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
    if (started.kind === "unavailable") throw new DriverUnavailableError(started.message);
    if (started.kind !== "started") throw new Error(`worker said ${started.kind} before it started`);
    worker.on("error", listener.onCrash);
    return new WorkerHandle(worker, started, listener);
  }

  send(message: ToWorker): void {
    if (!this.#running) return;
    this.#worker.postMessage(message);
    wakeEventFd(this.#wakeFd);
  }

  /** Resolves once the worker accepts on the listener. */
  listen(listener: ListenerShare): Promise<void> {
    const done = new Promise<void>((resolve) => this.#listening.set(listener.id, resolve));
    this.send({ kind: "listen", listener });
    return done;
  }

  /** Resolves once the worker no longer uses the listener's socket; `isLast` as in ToWorker. */
  unlisten(id: number, isLast: boolean): Promise<void> {
    const done = new Promise<void>((resolve) => this.#unlistened.set(id, resolve));
    this.send({ kind: "unlisten", id, isLast });
    return done;
  }

  /** Takes up to `max` sessions out. Their sockets are the caller's. */
  depart(max: number): Promise<Departed> {
    return new Promise((resolve) => {
      this.#onDeparted = resolve;
      this.send({ kind: "depart", max });
    });
  }

  /** Resolves when the thread answers, or has ended as it should. One at a time. */
  async ping(): Promise<void> {
    if (!this.#running) return;
    const answered = new Promise<void>((resolve) => {
      this.#onPong = resolve;
    });
    this.send({ kind: "ping" });
    await answered;
  }

  /** Stops accepting. Resolves when the last session has ended and the thread is gone. */
  drain(): Promise<void> {
    this.send({ kind: "drain" });
    return this.#exited;
  }

  /** Ends every session now; part of a drain. */
  abort(): void {
    this.send({ kind: "abort" });
  }

  #onMessage(message: FromWorker): void {
    switch (message.kind) {
      case "listening":
        this.#settle(this.#listening, message.id);
        break;
      case "unlistened":
        this.#settle(this.#unlistened, message.id);
        break;
      case "departed":
        this.#onDeparted?.(message);
        break;
      case "pong":
        this.#onPong?.();
        break;
      case "visited":
        this.#onVisited(message.upstream, message);
        break;
      case "drained":
        this.#running = false;
        break;
      case "log":
        this.#log[message.level](message.fields, message.message);
        break;
      case "session":
        this.#onSession?.(message.report);
        break;
      case "started":
      case "unavailable":
        break;
    }
  }

  #settle(waiting: Map<number, () => void>, id: number): void {
    waiting.get(id)?.();
    waiting.delete(id);
  }
}
