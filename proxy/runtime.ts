/**
 * The running proxy: one keeper thread, the engine workers, and this thread, which owns the listeners, the
 * configuration and what people ask.
 *
 *   names ─▶ LiveUpstream ─▶ PoolRegistry ─▶ keeper thread ─▶ shared table
 *                  └────────▶ workers ◀── listeners               └──▶ take() in the workers
 */
import { availableParallelism } from "node:os";
import type { Logger } from "pino";
import { diffConfig } from "../config/diff.ts";
import { loadConfig } from "../config/load.ts";
import { formatProblem } from "../config/problems.ts";
import type { Config, Listener } from "../config/schema.ts";
import { formatEndpoint } from "../native/address.ts";
import { Fd } from "../native/fd.ts";
import { Gate, type GateShare } from "../pool/gate.ts";
import { KeeperHandle, PoolError } from "../pool/keeper-handle.ts";
import { PoolRegistry } from "../pool/registry.ts";
import { ServerStates } from "./balance/server-states.ts";
import type { ListenerShare, ToWorker } from "./engine/messages.ts";
import type { MovingSession } from "./engine/session-record.ts";
import { DriverUnavailableError, WorkerHandle } from "./engine/worker-handle.ts";
import { listenError, StartError } from "./errors.ts";
import { ListenerSockets } from "./listener-sockets.ts";
import { NameWatcher } from "./names.ts";
import { DESCRIPTORS_PER_SESSION, sessionsOf, shareDescriptors } from "./process-limits.ts";
import type {
  ListenerStatus,
  MetricsSnapshot,
  ProxyView,
  Readiness,
  ReloadResult,
  Status,
} from "./status.ts";
import { Traffic } from "./traffic.ts";
import type { Estate, Heritage } from "./upgrade/estate.ts";
import { LiveUpstream, type NamedPool, poolMetrics, poolStatus } from "./upstreams.ts";
import { version } from "./version.ts";

export interface RuntimeOptions {
  readonly configFile: string;
  readonly config: Config;
  readonly log: Logger;
  /** False: no capabilities, or acceleration is off. */
  readonly accelerate: boolean;
  /** What a process that goes leaves to this one. */
  readonly heritage?: Heritage | undefined;
  /** A thread ended that should not have. */
  readonly onFatal: (error: Error) => void;
}

interface LiveListener {
  readonly config: Listener;
  readonly sockets: ListenerSockets;
  readonly id: number;
  readonly gate: GateShare;
}

/** How long a session may be idle whose listener is gone. */
const FORMER_IDLE_MS = 300_000;

/** Settings that only a restart changes. */
const RESTART_ONLY = new Set(["acceleration", "workers", "driver", "admin", "log"]);

export class Runtime implements ProxyView {
  readonly #options: RuntimeOptions;
  readonly #log: Logger;
  readonly #startedAt = performance.now();
  readonly #names: NameWatcher;
  readonly #traffic = new Traffic();
  readonly #upstreams = new Map<string, LiveUpstream>();
  readonly #listeners = new Map<string, LiveListener>();
  #workers: readonly WorkerHandle[] = [];
  /** Made with the workers, which it wakes. */
  #descriptors!: GateShare;
  #states!: ServerStates;
  #keeper: KeeperHandle | undefined;
  #registry: PoolRegistry | undefined;
  #config: Config;
  #nextListenerId = 1;
  #nextAdopter = 0;
  #changing: Promise<unknown> = Promise.resolve();
  #stopping = false;

  private constructor(options: RuntimeOptions) {
    this.#options = options;
    this.#log = options.log.child({ component: "runtime" });
    this.#config = options.config;
    this.#names = new NameWatcher({ log: options.log.child({ component: "names" }) });
  }

  /** Starts everything and listens. Rejects with StartError; nothing is left running then. */
  static async start(options: RuntimeOptions): Promise<Runtime> {
    const runtime = new Runtime(options);
    try {
      await runtime.#startThreads();
      await Promise.all(options.config.upstreams.map((upstream) => runtime.#addUpstream(upstream)));
      const opened = options.config.listeners.map(
        (listener) => [listener, runtime.#open(listener, options.heritage)] as const,
      );
      if (options.heritage) await runtime.#succeed(options.heritage);
      for (const [listener, sockets] of opened) await runtime.#adopt(listener, sockets);
      return runtime;
    } catch (error) {
      await runtime.closeNow();
      throw asStartError(error);
    }
  }

  status(): Status {
    return {
      version,
      uptimeMs: Math.round(performance.now() - this.#startedAt),
      driver: this.#workers[0]?.driver ?? "none",
      workers: this.#workers.length,
      listeners: [...this.#listeners.values()].map((listener) => this.#listenerStatus(listener)),
      pools: this.#pools().map(poolStatus),
      ...this.#balance(),
    };
  }

  readiness(): Readiness {
    const reasons = this.#config.listeners
      .filter(({ name }) => !this.#listeners.has(name))
      .map(({ name }) => `listener ${name} does not listen yet`);
    for (const { block, upstream, server } of this.#pools()) {
      if (block.get("settled") === 0) reasons.push(`the pool of ${upstream} (${server}) is not filled yet`);
    }
    if (this.#stopping) reasons.push("shutting down");
    return { reasons };
  }

  metrics(): MetricsSnapshot {
    return {
      ...this.#traffic.snapshot(),
      pools: this.#pools().map(poolMetrics),
      ...this.#balance(),
    };
  }

  reload(): Promise<ReloadResult> {
    return this.alone(() => this.#reload());
  }

  /** Runs `action` after reloads that are under way, and before those that come. */
  alone<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#changing.then(action);
    this.#changing = result.catch(() => {});
    return result;
  }

  /** Stops accepting, releases half-opens, waits for sessions up to `timeoutMs`, then closes everything. */
  async drain(timeoutMs: number): Promise<void> {
    this.#stopping = true;
    await this.#changing;
    this.#log.info({ active: this.#traffic.active }, "draining");
    const drained = Promise.all(this.#workers.map((worker) => worker.drain()));
    const limit = setTimeout(() => {
      this.#log.warn({ active: this.#traffic.active }, "drain timeout, closing what is left");
      for (const worker of this.#workers) worker.abort();
    }, timeoutMs);
    this.#closeListeners();
    // The keeper goes on until the last session: only it can tell a replayable reset. Its pools go now.
    await Promise.all([...this.#upstreams.values()].map((upstream) => upstream.stop()));
    this.#registry?.close();
    await drained;
    clearTimeout(limit);
    await this.#stopThreads();
  }

  /** Closes what is left at once. */
  async closeNow(): Promise<void> {
    this.#stopping = true;
    const drained = Promise.all(this.#workers.map((worker) => worker.drain()));
    for (const worker of this.#workers) worker.abort();
    this.#closeListeners();
    await drained;
    await this.#stopThreads();
  }

  // --- threads --------------------------------------------------------------------------------------------------

  async #startThreads(): Promise<void> {
    const { config, accelerate, onFatal } = this.#options;
    const logLevel = config.log.level;
    const count = config.workers === "auto" ? availableParallelism() : config.workers;
    this.#descriptors = Gate.create(new SharedArrayBuffer(4 * count), 0, DESCRIPTORS_PER_SESSION);
    this.#states = new ServerStates(this.#descriptors.wakeFds);
    if (accelerate) {
      const poolLog = this.#options.log.child({ component: "pool" });
      const { heritage } = this.#options;
      this.#keeper = await KeeperHandle.start(logLevel, poolLog, onFatal, {
        descriptors: this.#descriptors,
        isHeld: heritage !== undefined,
        ...(heritage?.secret && { secret: heritage.secret }),
      });
      this.#registry = new PoolRegistry(this.#keeper);
    }
    const engineLog = this.#options.log.child({ component: "engine" });
    this.#workers = await Promise.all(
      Array.from({ length: count }, (_, index) => {
        const { buffer: counters } = this.#traffic.addWorker();
        const data = { index, counters, logLevel, driver: config.driver, descriptors: this.#descriptors };
        return WorkerHandle.start({ ...data, keeper: this.#keeper?.share }, engineLog, onFatal);
      }),
    );
    this.#shareDescriptors();
    const [first] = this.#workers;
    if (first?.fallback !== undefined) {
      this.#log.warn(
        { driver: first.driver, reason: first.fallback },
        "io_uring cannot be used, running on epoll",
      );
    }
  }

  /** All threads have what they need: the rest is for sessions. */
  #shareDescriptors(): void {
    const { config, accelerate } = this.#options;
    const descriptors = shareDescriptors(config.listeners.length * this.#workers.length);
    new Gate(this.#descriptors).limit = descriptors.shared;
    const sessions = sessionsOf(descriptors, accelerate);
    const over = config.listeners.filter(({ maxConnections }) => maxConnections > sessions);
    if (over.length === 0) return;
    this.#log.info(
      { openFiles: descriptors.openFiles, sessions, listeners: over.map(({ name }) => name) },
      "the limit of open files admits fewer sessions than maxConnections",
    );
  }

  async #stopThreads(): Promise<void> {
    this.#names.close();
    await this.#keeper?.stop();
    this.#keeper = undefined;
    this.#workers = [];
  }

  #tellWorkers(message: ToWorker): void {
    for (const worker of this.#workers) worker.send(message);
  }

  // --- upstreams and listeners ------------------------------------------------------------------------------------

  async #addUpstream(config: Config["upstreams"][number]): Promise<void> {
    const upstream = new LiveUpstream(config, {
      names: this.#names,
      registry: this.#registry,
      states: this.#states,
      log: this.#options.log.child({ component: "balance" }),
      publish: (share) => this.#tellWorkers({ kind: "upstream", upstream: share }),
      onError: (err) => this.#log.error({ err, upstream: config.name }, "upstream addresses not applied"),
    });
    await upstream.start();
    this.#upstreams.set(config.name, upstream);
  }

  #open(listener: Listener, heritage?: Heritage): ListenerSockets {
    const { name, bind } = listener;
    const endpoint = { address: bind.host, port: bind.port };
    try {
      const inherited = heritage?.takeSockets(listener);
      if (inherited) return ListenerSockets.inherit(inherited, this.#workers.length);
      return ListenerSockets.open(endpoint, this.#workers.length, heritage?.isAhead);
    } catch (error) {
      throw listenError(`listener ${name}`, formatEndpoint(endpoint), error);
    }
  }

  /** Starts a listener on open sockets, which are its own from now on. */
  async #adopt(config: Listener, sockets: ListenerSockets): Promise<void> {
    const gate = Gate.create(this.#descriptors.wakeFds, config.maxConnections);
    const id = this.#nextListenerId;
    this.#nextListenerId += sockets.descriptors.length;
    await this.#listen(config, sockets, id, gate);
    this.#log.info({ listener: config.name, address: formatEndpoint(sockets.endpoint) }, "listening");
  }

  async #listen(config: Listener, sockets: ListenerSockets, id: number, gate: GateShare): Promise<void> {
    const listener = { config, sockets, id, gate };
    await Promise.all(this.#shares(listener).map(([worker, share]) => worker.listen(share)));
    this.#listeners.set(config.name, listener);
  }

  /** What each worker has to know of a listener's sockets, the first of every worker first. */
  #shares({ config, sockets, id, gate }: LiveListener): readonly (readonly [WorkerHandle, ListenerShare])[] {
    const { name, upstream, takeAfterMs, idleTimeoutMs, maxConnections } = config;
    const route = this.#traffic.route(name, upstream);
    const share = { name, upstream, takeAfterMs, idleTimeoutMs, maxConnections, route, gate };
    return sockets.descriptors.map((fd, index) => [
      this.#workers[index % this.#workers.length]!,
      { ...share, id: id + index, fd },
    ]);
  }

  async #removeListener(name: string): Promise<void> {
    const listener = this.#listeners.get(name);
    if (!listener) return;
    this.#listeners.delete(name);
    await Promise.all(this.#shares(listener).map(([worker, { id }]) => worker.unlisten(id)));
    listener.sockets.close();
  }

  #closeListeners(): void {
    for (const { sockets } of this.#listeners.values()) sockets.close();
    this.#listeners.clear();
  }

  // --- upgrade ----------------------------------------------------------------------------------------------------

  /** Says that all is prepared, and waits until it may begin. */
  async #succeed(heritage: Heritage): Promise<void> {
    const record = await heritage.ready();
    if (this.#keeper) await this.#keeper.adopt(record);
    else for (const { fd } of record.ports) new Fd(fd).close();
  }

  /** What this process can give away. */
  get estate(): Estate {
    const listeners = [...this.#listeners.values()];
    const shares = listeners.flatMap((listener) => this.#shares(listener));
    return {
      listeners: listeners.map(({ config: { name, bind }, sockets }) => ({
        name,
        bind: { address: bind.host, port: bind.port },
        sockets: sockets.descriptors,
      })),
      keeper: this.#keeper,
      traffic: this.#traffic,
      pools: this.#pools(),
      stopAccepting: async () => {
        await Promise.all(shares.map(([worker, { id }]) => worker.unlisten(id)));
      },
      acceptAgain: async () => {
        await Promise.all(shares.map(([worker, share]) => worker.listen(share)));
      },
      depart: async (max) => {
        const parts = await Promise.all(
          this.#workers.map((worker) => worker.depart(Math.ceil(max / this.#workers.length))),
        );
        return {
          sessions: parts.flatMap(({ sessions }) => sessions),
          left: parts.reduce((sum, { left }) => sum + left, 0),
        };
      },
      adopt: (sessions) => this.#adoptSessions(sessions),
    };
  }

  /** Spreads sessions over the workers. */
  #adoptSessions(sessions: readonly MovingSession[]): void {
    for (const moving of sessions) {
      const index = this.#nextAdopter++ % this.#workers.length;
      const live = this.#listeners.get(moving.record.listener);
      const listener = live ? this.#shares(live)[index]![1] : this.#formerShare(moving);
      this.#workers[index]!.send({ kind: "adopt", listener, sessions: [moving] });
    }
  }

  /** For a session of a listener that the configuration no longer has. */
  #formerShare({ record: { listener: name, upstream } }: MovingSession): ListenerShare {
    const route = this.#traffic.route(name, upstream);
    const gate = Gate.create(this.#descriptors.wakeFds, 0);
    const times = { takeAfterMs: 0, idleTimeoutMs: FORMER_IDLE_MS };
    return { id: 0, name, fd: -1, upstream, maxConnections: 0, route, gate, ...times };
  }

  // --- reload -----------------------------------------------------------------------------------------------------

  async #reload(): Promise<ReloadResult> {
    if (this.#stopping) return { ok: false, problems: ["shutting down"] };
    const loaded = await loadConfig(this.#options.configFile);
    if (!loaded.ok) {
      const problems = loaded.problems.map(formatProblem);
      this.#log.error({ problems }, "configuration not reloaded, the old one stays");
      return { ok: false, problems };
    }
    const next = loaded.config;
    const diff = diffConfig(this.#config, next);
    const opened = this.#openListeners(diff.listeners);
    if (!opened.ok) {
      this.#log.error({ problems: opened.problems }, "configuration not reloaded, the old one stays");
      return opened;
    }
    const restart = diff.settings.filter((setting) => RESTART_ONLY.has(setting));
    if (restart.length > 0) this.#log.warn({ settings: restart }, "these settings change at the next start");

    const replaced = [...diff.upstreams.changed.map(({ from }) => from), ...diff.upstreams.removed];
    const old = replaced.flatMap(({ name }) => this.#upstreams.get(name) ?? []);
    for (const upstream of diff.upstreams.added) await this.#addUpstream(upstream);
    for (const { to } of diff.upstreams.changed) await this.#addUpstream(to);
    await this.#applyListeners(diff.listeners, opened.sockets);
    for (const upstream of old) await upstream.stop();
    for (const { name } of diff.upstreams.removed) {
      this.#upstreams.delete(name);
      this.#tellWorkers({ kind: "dropUpstream", name });
    }
    this.#config = next;
    const count = (section: typeof diff.listeners | typeof diff.upstreams) =>
      section.added.length + section.changed.length + section.removed.length;
    this.#log.info(
      { listenersChanged: count(diff.listeners), upstreamsChanged: count(diff.upstreams) },
      "configuration reloaded",
    );
    return { ok: true };
  }

  /** Opens every new socket first: what cannot be bound refuses the whole file. */
  #openListeners(
    diff: ReturnType<typeof diffConfig>["listeners"],
  ): { ok: true; sockets: Map<string, ListenerSockets> } | { ok: false; problems: string[] } {
    const sockets = new Map<string, ListenerSockets>();
    const moved = diff.changed.filter(({ from, to }) => !sameBind(from, to)).map(({ to }) => to);
    for (const listener of [...diff.added, ...moved]) {
      try {
        sockets.set(listener.name, this.#inherit(listener) ?? this.#open(listener));
      } catch (error) {
        for (const opened of sockets.values()) opened.close();
        return { ok: false, problems: [asStartError(error).message] };
      }
    }
    return { ok: true, sockets };
  }

  /** The sockets of a listener that had this address under another name, so that nobody is refused. */
  #inherit({ bind }: Listener): ListenerSockets | undefined {
    const same = ({ config }: LiveListener) =>
      config.bind.host === bind.host && config.bind.port === bind.port;
    return bind.port === 0 ? undefined : [...this.#listeners.values()].find(same)?.sockets.duplicate();
  }

  async #applyListeners(
    diff: ReturnType<typeof diffConfig>["listeners"],
    sockets: ReadonlyMap<string, ListenerSockets>,
  ): Promise<void> {
    for (const { from, to } of diff.changed) {
      const listener = this.#listeners.get(from.name);
      if (!listener || !sameBind(from, to)) continue;
      await this.#listen(to, listener.sockets, listener.id, listener.gate);
    }
    const gone = [
      ...diff.removed,
      ...diff.changed.filter(({ from, to }) => !sameBind(from, to)).map(({ from }) => from),
    ];
    for (const { name } of gone) await this.#removeListener(name);
    for (const config of [...diff.added, ...diff.changed.map(({ to }) => to)]) {
      const opened = sockets.get(config.name);
      if (opened) await this.#adopt(config, opened);
    }
  }

  // --- sums -------------------------------------------------------------------------------------------------------

  #pools(): readonly NamedPool[] {
    return [...this.#upstreams.values()].flatMap(({ pools }) => pools);
  }

  #balance(): Pick<Status, "upstreams" | "servers"> {
    const upstreams = [...this.#upstreams.values()];
    return {
      upstreams: upstreams.map(({ status }) => status),
      servers: upstreams.flatMap(({ servers }) => servers),
    };
  }

  #listenerStatus({ config: { name }, sockets }: LiveListener): ListenerStatus {
    const total = this.#traffic.of(name, "total");
    const address = formatEndpoint(sockets.endpoint);
    return { name, address, mode: "tcp", active: this.#traffic.of(name, "active"), total };
  }
}

function sameBind(a: Listener, b: Listener): boolean {
  return a.bind.host === b.bind.host && a.bind.port === b.bind.port;
}

function asStartError(error: unknown): StartError {
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
