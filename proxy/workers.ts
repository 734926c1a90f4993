/** The threads that carry traffic: engine workers from the start, http workers with the first http listener. */
import { availableParallelism } from "node:os";
import { extname } from "node:path";
import type { Logger } from "pino";
import type { Config, Listener } from "../config/schema.ts";
import type { GateShare } from "../pool/gate.ts";
import type { KeeperShare } from "../pool/keeper-handle.ts";
import type { ToWorker, WorkerData } from "./engine/messages.ts";
import { WorkerHandle, type WorkerListener } from "./engine/worker-handle.ts";
import type { HttpWorkerData } from "./http/messages.ts";
import { loggedLevel } from "./log.ts";
import { sessionTracer } from "./tracing.ts";
import type { Traffic } from "./traffic.ts";
import type { MarkingShare } from "./transparent/marking.ts";

export interface WorkersOptions {
  readonly config: Config;
  readonly traffic: Traffic;
  readonly descriptors: GateShare;
  /** Undefined: nothing is accelerated. */
  readonly keeper: () => KeeperShare | undefined;
  /** Requests are logged in lines for people. */
  readonly isReadable: boolean;
  readonly log: Logger;
  readonly marking: MarkingShare;
  readonly onFatal: (error: Error) => void;
  readonly onVisited: WorkerListener["onVisited"];
}

const script = (path: string): URL => new URL(`${path}${extname(import.meta.url)}`, import.meta.url);
const ENGINE_WORKER = script("./engine/worker");
const HTTP_WORKER = script("./http/worker");

export class Workers {
  engine: readonly WorkerHandle[] = [];
  http: readonly WorkerHandle[] = [];
  readonly #options: WorkersOptions;
  /** Told of sessions, where somebody traces. */
  readonly #onSession = sessionTracer();

  constructor(options: WorkersOptions) {
    this.#options = options;
  }

  /** How many threads listeners of this mode have. */
  static count({ workers, httpWorkers }: Config, mode: Listener["mode"]): number {
    if (mode === "http") return httpWorkers;
    return workers === "auto" ? availableParallelism() : workers;
  }

  /** How many threads there may be, of both kinds. */
  static threads(config: Config): number {
    return Workers.count(config, "tcp") + Workers.count(config, "http");
  }

  get all(): readonly WorkerHandle[] {
    return [...this.engine, ...this.http];
  }

  /** Those whose listeners are of this mode. */
  for(mode: Listener["mode"]): readonly WorkerHandle[] {
    return mode === "http" ? this.http : this.engine;
  }

  tell(message: ToWorker): void {
    for (const worker of this.all) worker.send(message);
  }

  /** Stops accepting. Resolves when the last of some workers' sessions has ended; those left after `limitMs` are cut. */
  async drain(
    workers: readonly WorkerHandle[],
    limitMs: number,
    onLimit: () => void = () => {},
  ): Promise<void> {
    const drained = Promise.all(workers.map((worker) => worker.drain()));
    const limit = setTimeout(() => {
      onLimit();
      for (const worker of workers) worker.abort();
    }, limitMs);
    await drained;
    clearTimeout(limit);
  }

  async startEngine(): Promise<void> {
    const { config } = this.#options;
    const own = {
      driver: config.driver,
      logLevel: loggedLevel(config.log.level),
      isTraced: this.#onSession !== undefined,
      ...this.#options.marking,
    };
    this.engine = await this.#start(ENGINE_WORKER, "engine", 0, Workers.count(config, "tcp"), own);
  }

  async startHttp(): Promise<void> {
    const { config, isReadable } = this.#options;
    const first = this.engine.length;
    this.http = await this.#start(HTTP_WORKER, "http", first, config.httpWorkers, {
      isReadable,
      logLevel: config.log.level,
    });
  }

  /** Starts `count` threads, whose numbers begin with `first`. */
  #start(
    program: URL,
    component: string,
    first: number,
    count: number,
    own:
      | Pick<WorkerData, "driver" | "logLevel" | "isTraced" | keyof MarkingShare>
      | Pick<HttpWorkerData, "isReadable" | "logLevel">,
  ): Promise<WorkerHandle[]> {
    const { descriptors, keeper, traffic, onFatal, onVisited } = this.#options;
    const log = this.#options.log.child({ component });
    const listener = { log, onCrash: onFatal, onSession: this.#onSession, onVisited };
    const common = { descriptors, keeper: keeper(), ...own };
    return Promise.all(
      Array.from({ length: count }, (_, at) => {
        const { buffer: counters } = traffic.addWorker();
        return WorkerHandle.start(program, { ...common, index: first + at, counters }, listener);
      }),
    );
  }
}
