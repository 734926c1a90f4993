import type { Logger } from "pino";
import { loadConfig, parseConfig } from "../../config/load.ts";
import { formatProblem } from "../../config/problems.ts";
import type { Config } from "../../config/schema.ts";
import type { Fd } from "../../native/fd.ts";
import { REST_TIME_WAIT } from "../../pool/limits.ts";
import type { CheckpointGoal } from "../admin/checkpoint-goal.ts";
import { AdminServer } from "../admin/server.ts";
import { removeSocket } from "../admin/socket.ts";
import type { KeyedAddress } from "../args.ts";
import { becomeUser, mustBecome } from "../become-user.ts";
import { type Checkpoint, checkpoint, prepareGuard, restoreCheckpoint } from "../checkpoint/checkpoint.ts";
import { readImages } from "../checkpoint/images/image-file.ts";
import type { SessionImage } from "../checkpoint/images/image-schema.ts";
import { AccelproxyError, StartError } from "../errors.ts";
import { RecentEvents } from "../events.ts";
import { createLog } from "../log.ts";
import { move } from "../move/source.ts";
import { MoveTarget } from "../move/target.ts";
import { ADMIN_NAME, Passed } from "../passed.ts";
import { checkPrivileges, type MissingPrivilege } from "../privileges.ts";
import { Runtime, type RuntimeOptions } from "../runtime.ts";
import { type Manager, ServiceManager } from "../service-manager.ts";
import { usesClientAddresses } from "../transparent/marking.ts";
import { ChannelError } from "../upgrade/channel.ts";
import type { Heritage } from "../upgrade/estate.ts";
import { type Command, upgrade } from "../upgrade/predecessor.ts";
import { Successor } from "../upgrade/successor.ts";
import { version } from "../version.ts";
import { EXIT, type ExitCode, errorLine, type Output } from "./output.ts";

/** What happens to the process; cli.ts connects it to signals and uncaught errors. */
export interface ProcessEvents {
  /** SIGTERM or SIGINT, as often as it comes. */
  onStop(handler: (signal: string) => void): void;
  /** SIGHUP. */
  onReload(handler: () => void): void;
  /** SIGUSR2. */
  onUpgrade(handler: () => void): void;
  /** An error that nobody caught. The process goes on until run() says how to exit. */
  onCrash(handler: (error: unknown) => void): void;
}

export interface RunOptions {
  readonly configFile: string;
  /** Where a checkpoint is to be restored from. */
  readonly restore: string | undefined;
  /** Where to listen for sessions of another host. */
  readonly receive: KeyedAddress | undefined;
  /** stdout is a terminal: log lines for people. */
  readonly isTerminal: boolean;
  readonly events: ProcessEvents;
  /** How to start this program again, for an upgrade. */
  readonly command: Command;
  /** The descriptor on which the process before this one gives what it has; undefined for a plain start. */
  readonly channel: number | undefined;
  /** Descriptors that were opened for this process before it began, by name. */
  readonly passed: readonly (readonly [fd: number, name: string])[];
  readonly manager: Manager | undefined;
}

/** How the run ended. `hung`: threads may be left that did not end in time, and must not be waited for. */
export interface RunResult {
  readonly code: ExitCode;
  readonly hung: boolean;
  /** Another process goes on with everything. */
  readonly isSucceeded?: boolean;
}

const STDOUT = 1;
/** After an upgrade: later than this the new process may use the ports of half-opens again that requests still have. */
const LEAVE_LIMIT_MS = REST_TIME_WAIT - 1_000;
/** For closing what is left; it is a few system calls. */
const CLOSE_TIMEOUT_MS = 1_000;

/** What ends the run at once, and is a bug. */
type Failure =
  | "uncaught error"
  | "a thread ended"
  | "start failed"
  | "drain failed"
  | "reload failed"
  | "upgrade failed";

/** `accelproxy --config FILE`: runs until a signal or a failure ends it. Only one run per process. */
export async function run(options: RunOptions, output: Output): Promise<RunResult> {
  const passed = new Passed(options.passed);
  // Whoever started as root has opened them for the user that this process is now.
  const files = passed.takeFiles();
  const text = files.get(options.configFile);
  const loaded =
    text === undefined ? await loadConfig(options.configFile) : parseConfig(text, options.configFile);
  if (!loaded.ok) {
    for (const problem of loaded.problems) output.stderr(`${formatProblem(problem)}\n`);
    return { code: EXIT.usage, hung: false };
  }
  const { config } = loaded;
  try {
    if (mustBecome(config)) {
      const { configFile, command } = options;
      return await becomeUser({ configFile, config, command, passed });
    }
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    output.stderr(errorLine(error.message));
    return { code: error.code === "ACCEL_USER" ? EXIT.privilege : EXIT.failed, hung: false };
  }
  const { level } = config.log;
  const events = new RecentEvents();
  const log = createLog({ level, events, readable: options.isTerminal, descriptor: STDOUT });
  const needsAddresses = usesClientAddresses(config);
  const missing = config.acceleration === "off" && !needsAddresses ? [] : checkPrivileges().missing;
  if (missing.length > 0 && (config.acceleration === "required" || needsAddresses)) {
    output.stderr(errorLine(explainRefusal(missing, needsAddresses)));
    return { code: EXIT.privilege, hung: false };
  }
  // In an upgrade the process before this one has restored them.
  const restored = options.channel === undefined ? options.restore : undefined;
  let images: readonly SessionImage[] | undefined;
  try {
    images = restored === undefined ? undefined : readImages(restored).sessions;
  } catch (error) {
    if (!(error instanceof AccelproxyError)) throw error;
    output.stderr(errorLine(error.message));
    return { code: EXIT.failed, hung: false };
  }
  if (missing.length > 0)
    log.warn({ missing }, "not accelerating: privileges are missing, sessions connect plainly");
  return new Foreground(options, { config, passed, files }, { log, events }, output, images).run(
    config.acceleration !== "off" && missing.length === 0,
  );
}

function explainRefusal(missing: readonly MissingPrivilege[], needsAddresses: boolean): string {
  const names = missing.map(({ capability }) => capability).join(" and ");
  const found = missing.map((lack) => lack.found).join("; ");
  const remedies = [...new Set(missing.map(({ remedy }) => remedy))].join("; ");
  const [what, otherwise] = needsAddresses
    ? ["sourceAddress: client", "leave it out"]
    : ["acceleration: required", "write acceleration: preferred to proxy without"];
  return `${names} missing, which ${what} needs: ${found} (${remedies}; or ${otherwise})`;
}

/**
 * One run of the proxy, from start to exit:
 *
 *   starting ─▶ running ─▶ draining ─▶ ended       stop; a second one, or a failure, ends at once from anywhere
 */
class Foreground {
  readonly #options: RunOptions;
  readonly #config: Config;
  readonly #passed: Passed;
  readonly #files: ReadonlyMap<string, string>;
  readonly #manager: ServiceManager;
  readonly #log: Logger;
  readonly #events: RecentEvents;
  readonly #output: Output;
  /** Of the checkpoint to restore. */
  readonly #images: readonly SessionImage[] | undefined;
  #admin: AdminServer | undefined;
  /** The admin interface's socket when it was passed to this process, to be passed on. */
  #adminSocket: { readonly fd: Fd; readonly name: string } | undefined;
  #runtime: Runtime | undefined;
  #isStarting = true;
  /** Sessions are being given away; then everything ends, or goes on. */
  #isLeaving = false;
  #stops = 0;
  #isEnding = false;
  #end: (result: RunResult) => void = () => {};
  readonly #ended = new Promise<RunResult>((resolve) => {
    this.#end = resolve;
  });

  constructor(
    options: RunOptions,
    given: Pick<RuntimeOptions, "config" | "passed" | "files">,
    { log, events }: { readonly log: Logger; readonly events: RecentEvents },
    output: Output,
    images: readonly SessionImage[] | undefined,
  ) {
    this.#options = options;
    this.#images = images;
    this.#config = given.config;
    this.#passed = given.passed;
    this.#files = given.files;
    this.#log = log;
    this.#events = events;
    this.#manager = new ServiceManager(options.manager, log.child({ component: "service" }));
    this.#output = output;
  }

  run(accelerate: boolean): Promise<RunResult> {
    const { events } = this.#options;
    events.onCrash((error) => this.#fail(error, "uncaught error"));
    events.onStop((signal) => this.#stop(signal));
    events.onReload(() => this.#reload());
    events.onUpgrade(() => this.#upgrade());
    this.#log.info({ version, pid: process.pid, accelerate }, "starting");
    this.#start(accelerate)
      .finally(() => {
        this.#isStarting = false;
      })
      .catch((error: unknown) => this.#failStart(error));
    return this.#ended;
  }

  async #start(accelerate: boolean): Promise<void> {
    const { configFile, channel } = this.#options;
    const [config, log] = [this.#config, this.#log];
    const upgradeLog = log.child({ component: "upgrade" });
    // In an upgrade the process before this one answers until it ends.
    if (channel === undefined) await this.#startAdmin();
    const heritage =
      channel === undefined ? await this.#receiver() : await Successor.begin(channel, upgradeLog);
    const onFatal = (error: Error) => this.#fail(error, "a thread ended");
    if (config.admin !== null) prepareGuard();
    this.#runtime = await Runtime.start({
      ...{ configFile, config, log, events: this.#events, accelerate, heritage, onFatal },
      ...{ passed: this.#passed, files: this.#files, manager: this.#manager },
      isReadable: this.#options.isTerminal,
    });
    if (heritage !== undefined) {
      await heritage.takeOver(this.#runtime.estate);
    }
    if (channel !== undefined) {
      await this.#startAdmin().catch((err: unknown) => upgradeLog.error({ err }, "no admin interface"));
    }
    this.#closeUnwanted();
    this.#restore(this.#runtime);
    if (config.admin !== null) prepareGuard(); // another, where that was needed for sessions that came
    if (this.#isEnding) await this.#runtime.closeNow();
    else if (this.#stops > 0) await this.#drain();
    else {
      log.info("started");
      this.#manager.ready("accepting connections");
      const runtime = this.#runtime;
      this.#manager.watch((limitMs) => runtime.answers(limitMs));
    }
  }

  async #receiver(): Promise<Heritage | undefined> {
    const { receive } = this.#options;
    return receive && MoveTarget.listen({ ...receive, log: this.#log.child({ component: "move" }) });
  }

  async #startAdmin(): Promise<void> {
    const [config, log] = [this.#config, this.#log];
    if (config.admin !== null) {
      const view = () => this.#runtime;
      const given = this.#passed.takeAdmin(config.admin.bind);
      this.#adminSocket = given && { fd: given.fd.duplicate(), name: given.name };
      this.#admin = await AdminServer.start({
        config: config.admin,
        socket: given?.fd,
        view,
        drain: () => this.#drainOnRequest(),
        checkpoint: (goal) => this.#checkpoint(goal),
        log: log.child({ component: "admin" }),
      });
      log.info({ address: this.#admin.address }, "admin interface listening");
    }
  }

  /** What was opened for us and the configuration does not name. */
  #closeUnwanted(): void {
    const names = this.#passed.closeRest();
    if (names.length > 0)
      this.#log.warn({ names }, "descriptors passed to this process are not in the configuration");
  }

  /** What this program opened for itself, it removes as far as it may. */
  #forgetAdminSocket(): void {
    const { bind } = this.#config.admin ?? {};
    if (this.#adminSocket?.name === ADMIN_NAME && bind?.kind === "unix") removeSocket(bind.path);
  }

  /** Once is enough: a second request closes nothing, as a second signal does. */
  #drainOnRequest(): number {
    if (this.#stops === 0) this.#stop("POST /drain");
    return this.#runtime?.active ?? 0;
  }

  #stop(signal: string): void {
    this.#stops += 1;
    if (this.#stops > 1) {
      this.#log.warn({ signal }, "stopping at once");
      void this.#close(EXIT.done);
      return;
    }
    this.#log.info({ signal, drainTimeoutMs: (this.#runtime ?? this.#config).drainTimeoutMs }, "stopping");
    // Before the start is complete there is nothing to drain: #start() does it then, and #upgrade() after an upgrade.
    if (this.#runtime !== undefined && !this.#isLeaving)
      this.#drain().catch((error: unknown) => this.#fail(error, "drain failed"));
  }

  async #drain(): Promise<void> {
    this.#manager.stopping(`draining, ${this.#runtime?.active ?? 0} sessions left`);
    await this.#runtime?.drain();
    if (this.#isEnding) return;
    this.#isEnding = true;
    await this.#admin?.close();
    this.#forgetAdminSocket();
    this.#log.info("stopped");
    this.#end({ code: EXIT.done, hung: false });
  }

  #reload(): void {
    if (this.#runtime === undefined) {
      this.#log.warn("not reloading: the proxy is starting");
      return;
    }
    this.#runtime.reload().catch((error: unknown) => this.#fail(error, "reload failed"));
  }

  get #isBusy(): boolean {
    return this.#isStarting || this.#isLeaving || this.#stops > 0;
  }

  /** The sessions of --restore go on. Throws AccelproxyError. */
  #restore(runtime: Runtime): void {
    const dir = this.#options.restore;
    if (this.#images === undefined || dir === undefined) return;
    const log = this.#log.child({ component: "checkpoint" });
    const result = restoreCheckpoint(dir, this.#images, runtime.estate.adopt, log);
    log.info({ ...result }, "sessions restored");
  }

  /** Puts all sessions away. Whoever asked is answered first, then calls `end`. Rejects with AccelproxyError. */
  async #checkpoint(goal: CheckpointGoal): Promise<{ readonly done: Checkpoint; readonly end: () => void }> {
    const runtime = this.#runtime;
    if (runtime === undefined || this.#isBusy) {
      throw new AccelproxyError("ACCEL_BUSY", "the proxy is starting, upgrading or stopping (try again)");
    }
    const { httpListeners } = runtime;
    if (httpListeners.length > 0) {
      const remedy = "run them in a process of their own; an upgrade (SIGUSR2) lets their requests end";
      const problem = `http listeners cannot be put away: ${httpListeners.join(", ")} (${remedy})`;
      throw new AccelproxyError("ACCEL_CHECKPOINT_HTTP", problem);
    }
    this.#isLeaving = true;
    const log = this.#log.child({ component: "checkpoint" });
    try {
      const done = await runtime.alone(() =>
        "dir" in goal ? checkpoint(runtime.estate, goal.dir) : move(runtime.estate, goal.to, log),
      );
      log.info({ ...done }, "all sessions are away, ending");
      return { done, end: () => void this.#close(EXIT.done) };
    } catch (err) {
      this.#isLeaving = false;
      prepareGuard();
      log.error({ err }, "no checkpoint, sessions go on");
      if (this.#stops > 0) this.#drain().catch((error: unknown) => this.#fail(error, "drain failed"));
      throw err;
    }
  }

  #upgrade(): void {
    const runtime = this.#runtime;
    if (runtime === undefined || this.#isBusy) {
      this.#log.warn("not upgrading: the proxy is starting, upgrading or stopping");
      return;
    }
    this.#isLeaving = true;
    runtime
      .alone(() => this.#giveAway(runtime))
      .catch((error: unknown) => this.#fail(error, "upgrade failed"));
  }

  /** Ends when another process has everything; else goes on, or stops if somebody asked for that meanwhile. */
  async #giveAway(runtime: Runtime): Promise<void> {
    this.#log.info("upgrading: starting a new process");
    const letGo = async () => {
      await this.#admin?.close();
      this.#admin = undefined;
    };
    const log = this.#log.child({ component: "upgrade" });
    const { command } = this.#options;
    const admin = this.#adminSocket;
    const passed = admin === undefined ? [] : [[admin.fd.number, admin.name] as const];
    const child = await upgrade({ command, passed, estate: runtime.estate, log, letGo });
    this.#isLeaving = false;
    if (child === undefined) {
      if (this.#stops > 0) this.#drain().catch((error: unknown) => this.#fail(error, "drain failed"));
      return;
    }
    if (child.pid !== undefined) this.#manager.succeeded(child.pid);
    if (this.#stops > 0) child.kill("SIGTERM");
    child.unref();
    this.#isEnding = true;
    await runtime.leave(Math.min(this.#config.drainTimeoutMs, LEAVE_LIMIT_MS));
    this.#end({ code: EXIT.done, hung: false, isSucceeded: true });
  }

  #failStart(error: unknown): void {
    if (this.#isEnding) return; // a thread that ended was reported already
    if (!(error instanceof AccelproxyError || error instanceof ChannelError)) {
      this.#fail(error, "start failed");
      return;
    }
    this.#log.debug({ err: error }, "start failed");
    this.#output.stderr(errorLine(error.message));
    void this.#close(EXIT.failed);
  }

  #fail(error: unknown, message: Failure): void {
    if (this.#isEnding) return;
    const err = error instanceof Error ? error : new Error(String(error));
    this.#log.fatal({ err }, message);
    this.#output.stderr(errorLine(`${message}: ${err.message} (the log has its stack; please report it)`));
    void this.#close(EXIT.failed);
  }

  /** Closes whatever is open and ends, within CLOSE_TIMEOUT_MS whatever happens. */
  async #close(code: ExitCode): Promise<void> {
    if (this.#isEnding) return;
    this.#isEnding = true;
    const closed = Promise.all([this.#admin?.close(), this.#runtime?.closeNow()]);
    this.#forgetAdminSocket();
    const isClosed = await Promise.race([
      closed.then(isTrue, isFalse),
      afterMs(CLOSE_TIMEOUT_MS).then(isFalse),
    ]);
    if (!isClosed) this.#log.warn("not everything closed in time");
    this.#end({ code, hung: !isClosed || this.#isStarting });
  }
}

const isTrue = () => true;
const isFalse = () => false;

function afterMs(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, delayMs).unref();
  });
}
