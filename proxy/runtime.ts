/**
 * The running proxy: one keeper thread, the engine workers, and this thread, which owns the listeners, the
 * configuration and what people ask.
 *
 *   names ─▶ LiveUpstream ─▶ PoolRegistry ─▶ keeper thread ─▶ shared table
 *                  └────────▶ workers ◀── listeners               └──▶ take() in the workers
 */
import type { Logger } from "pino";
import { diffConfig } from "../config/diff.ts";
import { loadConfig } from "../config/load.ts";
import { formatProblem } from "../config/problems.ts";
import type { Config, Listener, Upstream } from "../config/schema.ts";
import { Fd } from "../native/fd.ts";
import { Gate, type GateShare } from "../pool/gate.ts";
import { KeeperHandle } from "../pool/keeper-handle.ts";
import { asKernelObjects } from "../pool/kernel-objects.ts";
import { PoolRegistry } from "../pool/registry.ts";
import { ServerStates } from "./balance/server-states.ts";
import type { ListenerShare } from "./engine/messages.ts";
import type { MovingSession } from "./engine/session-record.ts";
import { asStartError, StartError } from "./errors.ts";
import type { RecentEvents } from "./events.ts";
import { type HttpFiles, readHttpFiles } from "./http/files.ts";
import { formerShare } from "./listener-shares.ts";
import type { ListenerSockets } from "./listener-sockets.ts";
import { Listeners } from "./listeners.ts";
import { loggedLevel } from "./log.ts";
import { NameWatcher } from "./names.ts";
import { BPF_PREFIX, type Passed } from "./passed.ts";
import { DESCRIPTORS_PER_SESSION, sessionsOf, shareDescriptors } from "./process-limits.ts";
import { usesHttp, waitingSettings, withFiles } from "./reload-plan.ts";
import type { ServiceManager } from "./service-manager.ts";
import type { MetricsSnapshot, ProxyView, Readiness, ReloadResult, Status } from "./status.ts";
import { Traffic } from "./traffic.ts";
import { type LearnedUpstream, newUpstream } from "./transparent/learned-upstream.ts";
import { type MarkingShare, markingOf, markingProblems } from "./transparent/marking.ts";
import type { Estate, Heritage } from "./upgrade/estate.ts";
import { type LiveUpstream, type NamedPool, poolMetrics, poolStatus, unfilledReasons } from "./upstreams.ts";
import { version } from "./version.ts";
import { Workers } from "./workers.ts";

export interface RuntimeOptions {
  readonly configFile: string;
  readonly config: Config;
  readonly log: Logger;
  readonly events: RecentEvents;
  /** False: no capabilities, or acceleration is off. */
  readonly accelerate: boolean;
  /** Requests are logged in lines for people. */
  readonly isReadable: boolean;
  /** What was opened for this process before it began. */
  readonly passed: Passed;
  /** What was in files that were, by path. */
  readonly files: ReadonlyMap<string, string>;
  readonly manager: ServiceManager;
  /** What a process that goes leaves to this one. */
  readonly heritage?: Heritage | undefined;
  /** A thread ended that should not have. */
  readonly onFatal: (error: Error) => void;
}

export class Runtime implements ProxyView {
  readonly #options: RuntimeOptions;
  readonly #log: Logger;
  readonly #marking: MarkingShare;
  readonly #startedAt = performance.now();
  readonly #names: NameWatcher;
  readonly #traffic = new Traffic();
  readonly #upstreams = new Map<string, LiveUpstream | LearnedUpstream>();
  readonly #listeners: Listeners;
  #workers!: Workers;
  #files: HttpFiles;
  /** Made with the workers, which it wakes. */
  #descriptors!: GateShare;
  #states!: ServerStates;
  #keeper: KeeperHandle | undefined;
  #registry: PoolRegistry | undefined;
  #config: Config;
  #nextAdopter = 0;
  #changing: Promise<unknown> = Promise.resolve();
  #stopping = false;
  #isReloadRefused = false;

  private constructor(options: RuntimeOptions, files: HttpFiles) {
    this.#options = options;
    this.#files = files;
    this.#log = options.log.child({ component: "runtime" });
    this.#config = options.config;
    this.#marking = markingOf(options.config);
    this.#listeners = new Listeners({
      workers: (mode) => this.#workers.for(mode),
      certificates: (name) => this.#files.certificates.get(name) ?? [],
      gate: (connectionsMax) => Gate.create(this.#descriptors.wakeFds, connectionsMax),
      traffic: this.#traffic,
      log: this.#log,
    });
    this.#names = new NameWatcher({ log: options.log.child({ component: "names" }) });
  }

  /** Starts everything and listens. Rejects with StartError; nothing is left running then. */
  static async start(options: RuntimeOptions): Promise<Runtime> {
    const read = readHttpFiles(options.config, options.configFile, options.files);
    if (!read.ok) throw new StartError("ACCEL_CERTIFICATE", read.problems.join("; "));
    const runtime = new Runtime(options, read.files);
    try {
      await runtime.#startThreads();
      for (const upstream of await runtime.#prepareUpstreams(options.config.upstreams, read.files)) {
        runtime.#addUpstream(upstream);
      }
      const opened = options.config.listeners.map(
        (listener) => [listener, runtime.#openListener(listener)] as const,
      );
      if (options.heritage) await runtime.#succeed(options.heritage);
      for (const [listener, sockets] of opened) await runtime.#listeners.start(listener, sockets);
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
      driver: this.#workers.engine[0]?.driver ?? "none",
      workers: this.#workers.engine.length,
      listeners: this.#listeners.status,
      pools: this.#pools().map(poolStatus),
      ...this.#balance(),
      ...this.#traffic.overview,
      events: this.#options.events.newestFirst,
    };
  }

  readiness(): Readiness {
    const reasons = this.#config.listeners
      .filter(({ name }) => this.#listeners.get(name) === undefined)
      .map(({ name }) => `listener ${name} does not listen yet`);
    reasons.push(...this.#pools().flatMap(unfilledReasons));
    if (this.#stopping) reasons.push("shutting down");
    return { reasons };
  }

  metrics(): MetricsSnapshot {
    return {
      ...this.#traffic.snapshot(),
      limits: this.#listeners.all.map(({ config: { name, maxConnections } }) => ({
        listener: name,
        maxConnections,
      })),
      pools: poolMetrics(this.#pools()),
      ...this.#balance(),
      logged: this.#options.events.counts,
      isReloadRefused: this.#isReloadRefused,
    };
  }

  /** Sessions now. */
  get active(): number {
    return this.#traffic.active;
  }

  /** True when every thread answers within `limitMs`. */
  async answers(limitMs: number): Promise<boolean> {
    const threads = Promise.all([this.#keeper?.ping(), ...this.#workers.all.map((worker) => worker.ping())]);
    let limit: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      limit = setTimeout(() => resolve(false), limitMs);
    });
    const isAnswered = await Promise.race([threads.then(() => true), late]);
    clearTimeout(limit);
    return isAnswered;
  }

  /** As the configuration has it now. */
  get drainTimeoutMs(): number {
    return this.#config.drainTimeoutMs;
  }

  reload(): Promise<ReloadResult> {
    return this.alone(async () => {
      const { manager } = this.#options;
      manager.reloading();
      const result = await this.#reload();
      manager.ready(result.ok ? "accepting connections" : `not reloaded: ${result.problems[0]}`);
      return result;
    });
  }

  /** Runs `action` after reloads that are under way, and before those that come. */
  alone<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#changing.then(action);
    this.#changing = result.catch(() => {});
    return result;
  }

  /** Stops accepting, releases half-opens, waits for sessions up to drainTimeout, then closes everything. */
  async drain(): Promise<void> {
    this.#stopping = true;
    await this.#changing;
    this.#log.info({ active: this.#traffic.active }, "draining");
    const drained = this.#workers.drain(this.#workers.all, this.drainTimeoutMs, () => {
      this.#log.warn({ active: this.#traffic.active }, "drain timeout, closing what is left");
    });
    this.#listeners.close();
    // The keeper goes on until the last session: only it can tell a replayable reset. Its pools go now.
    await Promise.all([...this.#upstreams.values()].map((upstream) => upstream.stop()));
    this.#registry?.close();
    await drained;
    await this.#stopThreads();
  }

  /** Another process has everything but requests of http listeners: they end here, within `timeoutMs`. */
  async leave(timeoutMs: number): Promise<void> {
    await this.#workers.drain(this.#workers.http, timeoutMs);
    await this.closeNow();
  }

  /** The names of its http listeners. */
  get httpListeners(): readonly string[] {
    return this.#listeners.all.flatMap(({ config: { name, mode } }) => (mode === "http" ? [name] : []));
  }

  /** Closes what is left at once. */
  async closeNow(): Promise<void> {
    this.#stopping = true;
    const drained = this.#workers.drain(this.#workers.all, 0);
    this.#listeners.close();
    await drained;
    await this.#stopThreads();
  }

  // --- threads --------------------------------------------------------------------------------------------------

  async #startThreads(): Promise<void> {
    const { config, accelerate, onFatal } = this.#options;
    const threads = Workers.threads(config);
    this.#descriptors = Gate.create(new SharedArrayBuffer(4 * threads), 0, DESCRIPTORS_PER_SESSION);
    this.#states = new ServerStates(this.#descriptors.wakeFds);
    this.#workers = new Workers({
      ...{ config, onFatal, traffic: this.#traffic, descriptors: this.#descriptors },
      keeper: () => this.#keeper?.share,
      isReadable: this.#options.isReadable,
      log: this.#options.log,
      marking: this.#marking,
      onVisited: (upstream, visit) => this.#upstreams.get(upstream)?.visited(visit),
    });
    if (accelerate) {
      const poolLog = this.#options.log.child({ component: "pool" });
      const { heritage, passed } = this.#options;
      this.#keeper = await KeeperHandle.start(loggedLevel(config.log.level), poolLog, onFatal, {
        descriptors: this.#descriptors,
        isHeld: heritage !== undefined,
        mark: this.#marking.mark,
        objects: asKernelObjects(passed.takePrefixed(BPF_PREFIX)),
        ...(heritage?.secret && { secret: heritage.secret }),
      });
      this.#registry = new PoolRegistry(this.#keeper);
    }
    await this.#workers.startEngine();
    if (usesHttp(config)) await this.#startHttp();
    this.#shareDescriptors();
    const [first] = this.#workers.engine;
    if (first?.fallback !== undefined) {
      const fields = { driver: first.driver, reason: first.fallback };
      this.#log.warn(fields, "io_uring cannot be used, running on epoll");
    }
  }

  async #startHttp(): Promise<void> {
    await this.#workers.startHttp();
    for (const upstream of this.#upstreams.values()) upstream.publish();
  }

  /** All threads have what they need: the rest is for sessions. */
  #shareDescriptors(): void {
    const { config, accelerate } = this.#options;
    const descriptors = shareDescriptors(
      config.listeners.reduce((sum, { mode }) => sum + this.#workers.for(mode).length, 0),
    );
    new Gate(this.#descriptors).limit = descriptors.shared;
    const sessions = sessionsOf(descriptors, accelerate);
    const over = config.listeners.filter(({ maxConnections }) => maxConnections > sessions);
    if (over.length === 0) return;
    const fields = { openFiles: descriptors.openFiles, sessions, listeners: over.map(({ name }) => name) };
    this.#log.info(fields, "the limit of open files admits fewer sessions than maxConnections");
  }

  async #stopThreads(): Promise<void> {
    this.#names.close();
    await this.#keeper?.stop();
    this.#keeper = undefined;
  }

  // --- upstreams and listeners ------------------------------------------------------------------------------------

  /** All of them, or none: rejects as LiveUpstream.prepare(). */
  async #prepareUpstreams(
    configs: readonly Upstream[],
    { authorities }: HttpFiles,
  ): Promise<readonly (LiveUpstream | LearnedUpstream)[]> {
    const upstreams = configs.map((config) =>
      newUpstream(config, {
        names: this.#names,
        registry: this.#registry,
        states: this.#states,
        log: this.#options.log.child({ component: "balance" }),
        authority: authorities.get(config.name),
        publish: (share) => this.#workers.tell({ kind: "upstream", upstream: share }),
        onError: (err) => this.#log.error({ err, upstream: config.name }, "upstream addresses not applied"),
      }),
    );
    const prepared = await Promise.allSettled(upstreams.map((upstream) => upstream.prepare()));
    const failed = prepared.find((outcome) => outcome.status === "rejected");
    if (failed === undefined) return upstreams;
    await Promise.all(upstreams.map((upstream) => upstream.stop()));
    throw failed.reason;
  }

  #addUpstream(upstream: LiveUpstream | LearnedUpstream): void {
    upstream.publish();
    this.#upstreams.set(upstream.config.name, upstream);
  }

  /** On sockets that were opened before, if there are any. Throws StartError. */
  #openListener(listener: Listener): ListenerSockets {
    const { heritage, passed } = this.#options;
    const inherited = heritage?.takeSockets(listener) ?? passed.takeSockets(listener);
    return this.#listeners.open(listener, inherited, heritage?.isAhead);
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
    const listeners = this.#listeners.all;
    const shares = listeners.flatMap((listener) => this.#listeners.shares(listener));
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
        await Promise.all(shares.map(([worker, { id }]) => worker.unlisten(id, false)));
      },
      acceptAgain: async () => {
        await Promise.all(shares.map(([worker, share]) => worker.listen(share)));
      },
      depart: async (max) => {
        const parts = await Promise.all(
          this.#workers.engine.map((worker) => worker.depart(Math.ceil(max / this.#workers.engine.length))),
        );
        return {
          sessions: parts.flatMap(({ sessions }) => sessions),
          left: parts.reduce((sum, { left }) => sum + left, 0),
        };
      },
      adopt: (sessions) => this.#adoptSessions(sessions),
    };
  }

  /** Spreads sessions over the workers, a message for those of one listener. */
  #adoptSessions(sessions: readonly MovingSession[]): void {
    const messages = new Map<string, { index: number; moving: MovingSession[] }>();
    for (const moving of sessions) {
      const index = this.#nextAdopter++ % this.#workers.engine.length;
      const key = JSON.stringify([index, moving.record.listener, moving.record.upstream]);
      const message = messages.get(key);
      if (message === undefined) messages.set(key, { index, moving: [moving] });
      else message.moving.push(moving);
    }
    for (const { index, moving } of messages.values()) {
      const live = this.#listeners.get(moving[0]!.record.listener);
      const listener =
        live && live.config.mode !== "http"
          ? this.#listeners.shares(live)[index]![1]
          : this.#formerShare(moving[0]!);
      this.#workers.engine[index]!.send({ kind: "adopt", listener, sessions: moving });
    }
  }

  /** For a session of a listener that the configuration no longer has. */
  #formerShare({ record: { listener, upstream } }: MovingSession): ListenerShare {
    const gate = Gate.create(this.#descriptors.wakeFds, 0);
    return formerShare(listener, upstream, { route: this.#traffic.route(listener, upstream), gate });
  }

  // --- reload -----------------------------------------------------------------------------------------------------

  async #reload(): Promise<ReloadResult> {
    if (this.#stopping) return { ok: false, problems: ["shutting down"] };
    const loaded = await loadConfig(this.#options.configFile);
    if (!loaded.ok) return this.#refuseReload(loaded.problems.map(formatProblem));
    const next = loaded.config;
    const unmarked = markingProblems(this.#marking, next);
    if (unmarked.length > 0) return this.#refuseReload(unmarked);
    const read = readHttpFiles(next, this.#options.configFile);
    if (!read.ok) return this.#refuseReload(read.problems);
    const { files } = read;
    const diff = withFiles(diffConfig(this.#config, next), this.#files, files);
    let sockets: ReadonlyMap<string, ListenerSockets> = new Map();
    let fresh: readonly (LiveUpstream | LearnedUpstream)[];
    try {
      if (usesHttp(next) && this.#workers.http.length === 0) await this.#startHttp();
      sockets = this.#listeners.prepare(diff.listeners);
      const { added, changed } = diff.upstreams;
      fresh = await this.#prepareUpstreams([...added, ...changed.map(({ to }) => to)], files);
    } catch (error) {
      for (const opened of sockets.values()) opened.close();
      return this.#refuseReload([asStartError(error).message]);
    }
    this.#files = files;
    const restart = waitingSettings(diff);
    if (restart.length > 0) this.#log.warn({ settings: restart }, "these settings change at the next start");

    const replaced = [...diff.upstreams.changed.map(({ from }) => from), ...diff.upstreams.removed];
    const old = replaced.flatMap(({ name }) => this.#upstreams.get(name) ?? []);
    for (const upstream of fresh) this.#addUpstream(upstream);
    await this.#listeners.apply(diff.listeners, sockets);
    for (const upstream of old) await upstream.stop();
    for (const { name } of diff.upstreams.removed) {
      this.#upstreams.delete(name);
      this.#workers.tell({ kind: "dropUpstream", name });
    }
    this.#config = next;
    this.#isReloadRefused = false;
    const count = (section: typeof diff.listeners | typeof diff.upstreams) =>
      section.added.length + section.changed.length + section.removed.length;
    this.#log.info(
      { listenersChanged: count(diff.listeners), upstreamsChanged: count(diff.upstreams) },
      "configuration reloaded",
    );
    return { ok: true };
  }

  #refuseReload(problems: readonly string[]): ReloadResult {
    this.#isReloadRefused = true;
    this.#log.error({ problems }, "configuration not reloaded, the old one stays");
    return { ok: false, problems };
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
}
