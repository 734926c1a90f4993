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
import { type Config, type Listener, routeDefaults } from "../config/schema.ts";
import { formatEndpoint } from "../native/address.ts";
import { Fd } from "../native/fd.ts";
import { Gate, type GateShare } from "../pool/gate.ts";
import { KeeperHandle } from "../pool/keeper-handle.ts";
import { PoolRegistry } from "../pool/registry.ts";
import { ServerStates } from "./balance/server-states.ts";
import type { ListenerShare } from "./engine/messages.ts";
import type { MovingSession } from "./engine/session-record.ts";
import type { WorkerHandle } from "./engine/worker-handle.ts";
import { asStartError, listenError, StartError } from "./errors.ts";
import type { RecentEvents } from "./events.ts";
import { type HttpFiles, readHttpFiles } from "./http/files.ts";
import type { HttpShare } from "./http/messages.ts";
import { ListenerSockets } from "./listener-sockets.ts";
import { loggedLevel } from "./log.ts";
import { NameWatcher } from "./names.ts";
import { DESCRIPTORS_PER_SESSION, sessionsOf, shareDescriptors } from "./process-limits.ts";
import { sameSockets, usesHttp, waitingSettings, withFiles } from "./reload-plan.ts";
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

export class Runtime implements ProxyView {
  readonly #options: RuntimeOptions;
  readonly #log: Logger;
  readonly #startedAt = performance.now();
  readonly #names: NameWatcher;
  readonly #traffic = new Traffic();
  readonly #upstreams = new Map<string, LiveUpstream>();
  readonly #listeners = new Map<string, LiveListener>();
  #workers!: Workers;
  #files: HttpFiles;
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

  private constructor(options: RuntimeOptions, files: HttpFiles) {
    this.#options = options;
    this.#files = files;
    this.#log = options.log.child({ component: "runtime" });
    this.#config = options.config;
    this.#names = new NameWatcher({ log: options.log.child({ component: "names" }) });
  }

  /** Starts everything and listens. Rejects with StartError; nothing is left running then. */
  static async start(options: RuntimeOptions): Promise<Runtime> {
    const read = readHttpFiles(options.config, options.configFile);
    if (!read.ok) throw new StartError("ACCEL_CERTIFICATE", read.problems.join("; "));
    const runtime = new Runtime(options, read.files);
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
      driver: this.#workers.engine[0]?.driver ?? "none",
      workers: this.#workers.engine.length,
      listeners: [...this.#listeners.values()].map((listener) => this.#listenerStatus(listener)),
      pools: this.#pools().map(poolStatus),
      ...this.#balance(),
      ...this.#traffic.overview,
      events: this.#options.events.newestFirst,
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
    return { ...this.#traffic.snapshot(), pools: this.#pools().map(poolMetrics), ...this.#balance() };
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
    const drained = this.#workers.drain(this.#workers.all, timeoutMs, () => {
      this.#log.warn({ active: this.#traffic.active }, "drain timeout, closing what is left");
    });
    this.#closeListeners();
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
    return [...this.#listeners.values()].flatMap(({ config: { name, mode } }) =>
      mode === "http" ? [name] : [],
    );
  }

  /** Closes what is left at once. */
  async closeNow(): Promise<void> {
    this.#stopping = true;
    const drained = this.#workers.drain(this.#workers.all, 0);
    this.#closeListeners();
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
    });
    if (accelerate) {
      const poolLog = this.#options.log.child({ component: "pool" });
      const { heritage } = this.#options;
      this.#keeper = await KeeperHandle.start(loggedLevel(config.log.level), poolLog, onFatal, {
        descriptors: this.#descriptors,
        isHeld: heritage !== undefined,
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

  async #addUpstream(config: Config["upstreams"][number]): Promise<void> {
    const upstream = new LiveUpstream(config, {
      names: this.#names,
      registry: this.#registry,
      states: this.#states,
      log: this.#options.log.child({ component: "balance" }),
      authority: this.#files.authorities.get(config.name),
      publish: (share) => this.#workers.tell({ kind: "upstream", upstream: share }),
      onError: (err) => this.#log.error({ err, upstream: config.name }, "upstream addresses not applied"),
    });
    await upstream.start();
    this.#upstreams.set(config.name, upstream);
  }

  #open(listener: Listener, heritage?: Heritage): ListenerSockets {
    const { name, bind, mode } = listener;
    const endpoint = { address: bind.host, port: bind.port };
    const workers = this.#workers.for(mode).length;
    try {
      const inherited = heritage?.takeSockets(listener);
      if (inherited) return ListenerSockets.inherit(inherited, workers);
      return ListenerSockets.open(endpoint, workers, heritage?.isAhead);
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
    const { name, mode, upstream, takeAfterMs, idleTimeoutMs, maxConnections, proxyProtocol } = config;
    const route = this.#traffic.route(name, upstream);
    const settings = { takeAfterMs, idleTimeoutMs, maxConnections, proxyProtocol };
    const http = mode === "http" && { http: this.#httpShare(config) };
    const share = { name, upstream, route, gate, ...settings, ...http };
    const workers = this.#workers.for(mode);
    return sockets.descriptors.map((fd, index) => [
      workers[index % workers.length]!,
      { ...share, id: id + index, fd },
    ]);
  }

  #httpShare({ name, upstream, routes }: Listener): HttpShare {
    const all = [...routes, { host: "*", pathPrefix: "/", upstream, ...routeDefaults }];
    return {
      routes: all.map((route) => ({ ...route, route: this.#traffic.route(name, route.upstream) })),
      certificates: this.#files.certificates.get(name) ?? [],
    };
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

  /** Spreads sessions over the workers. */
  #adoptSessions(sessions: readonly MovingSession[]): void {
    for (const moving of sessions) {
      const index = this.#nextAdopter++ % this.#workers.engine.length;
      const live = this.#listeners.get(moving.record.listener);
      const listener =
        live?.config.mode === "tcp" ? this.#shares(live)[index]![1] : this.#formerShare(moving);
      this.#workers.engine[index]!.send({ kind: "adopt", listener, sessions: [moving] });
    }
  }

  /** For a session of a listener that the configuration no longer has. */
  #formerShare({ record: { listener: name, upstream } }: MovingSession): ListenerShare {
    const route = this.#traffic.route(name, upstream);
    const gate = Gate.create(this.#descriptors.wakeFds, 0);
    const times = { takeAfterMs: 0, idleTimeoutMs: FORMER_IDLE_MS };
    const proxyProtocol = { accept: "none", from: [] } as const;
    return { id: 0, name, fd: -1, upstream, maxConnections: 0, proxyProtocol, route, gate, ...times };
  }

  // --- reload -----------------------------------------------------------------------------------------------------

  async #reload(): Promise<ReloadResult> {
    if (this.#stopping) return { ok: false, problems: ["shutting down"] };
    const loaded = await loadConfig(this.#options.configFile);
    if (!loaded.ok) return this.#refuseReload(loaded.problems.map(formatProblem));
    const next = loaded.config;
    const read = readHttpFiles(next, this.#options.configFile);
    if (!read.ok) return this.#refuseReload(read.problems);
    const diff = withFiles(diffConfig(this.#config, next), this.#files, read.files);
    if (usesHttp(next) && this.#workers.http.length === 0) await this.#startHttp();
    const opened = this.#openListeners(diff.listeners);
    if (!opened.ok) return this.#refuseReload(opened.problems);
    this.#files = read.files;
    const restart = waitingSettings(diff);
    if (restart.length > 0) this.#log.warn({ settings: restart }, "these settings change at the next start");

    const replaced = [...diff.upstreams.changed.map(({ from }) => from), ...diff.upstreams.removed];
    const old = replaced.flatMap(({ name }) => this.#upstreams.get(name) ?? []);
    for (const upstream of diff.upstreams.added) await this.#addUpstream(upstream);
    for (const { to } of diff.upstreams.changed) await this.#addUpstream(to);
    await this.#applyListeners(diff.listeners, opened.sockets);
    for (const upstream of old) await upstream.stop();
    for (const { name } of diff.upstreams.removed) {
      this.#upstreams.delete(name);
      this.#workers.tell({ kind: "dropUpstream", name });
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

  #refuseReload(problems: readonly string[]): ReloadResult {
    this.#log.error({ problems }, "configuration not reloaded, the old one stays");
    return { ok: false, problems };
  }

  /** Opens every new socket first: what cannot be bound refuses the whole file. */
  #openListeners(
    diff: ReturnType<typeof diffConfig>["listeners"],
  ): { ok: true; sockets: Map<string, ListenerSockets> } | { ok: false; problems: string[] } {
    const sockets = new Map<string, ListenerSockets>();
    const moved = diff.changed.filter(({ from, to }) => !sameSockets(from, to)).map(({ to }) => to);
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
  #inherit({ bind, mode }: Listener): ListenerSockets | undefined {
    const same = ({ config }: LiveListener) =>
      config.bind.host === bind.host && config.bind.port === bind.port;
    const live = bind.port === 0 ? undefined : [...this.#listeners.values()].find(same);
    return live?.sockets.duplicate(this.#workers.for(mode).length);
  }

  async #applyListeners(
    diff: ReturnType<typeof diffConfig>["listeners"],
    sockets: ReadonlyMap<string, ListenerSockets>,
  ): Promise<void> {
    for (const { from, to } of diff.changed) {
      const listener = this.#listeners.get(from.name);
      if (!listener || !sameSockets(from, to)) continue;
      await this.#listen(to, listener.sockets, listener.id, listener.gate);
    }
    const gone = [
      ...diff.removed,
      ...diff.changed.filter(({ from, to }) => !sameSockets(from, to)).map(({ from }) => from),
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

  #listenerStatus({ config: { name, mode }, sockets }: LiveListener): ListenerStatus {
    const total = this.#traffic.of(name, "total");
    const address = formatEndpoint(sockets.endpoint);
    return { name, address, mode, active: this.#traffic.of(name, "active"), total };
  }
}
