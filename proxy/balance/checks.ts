/**
 * The active checks of an upstream's servers, on the main thread.
 *
 *   healthy ──unhealthyAfter failed in a row──▶ unhealthy ──healthyAfter good in a row──▶ healthy
 *
 * The very first check of a server decides alone, so that a process that starts or takes over does not learn slowly what
 * the one before knew. A good check also ends an ejection: it is a connection like that of a session.
 */
import type { HealthConfig } from "../../config/schema.ts";
import { type Endpoint, formatEndpoint } from "../../native/address.ts";
import { nowMs } from "../../native/clock.ts";
import type { Logger } from "../../pool/logger.ts";
import { checkServer } from "./check.ts";
import { Line, type LineShare } from "./line.ts";
import type { ServerState } from "./server-state.ts";

export interface CheckedServer {
  readonly endpoint: Endpoint;
  readonly state: ServerState;
  /** As the configuration has it, HOST:PORT. */
  readonly host: string;
}

export interface HealthChecksOptions {
  readonly upstream: string;
  readonly config: HealthConfig;
  /** Those in it are called when a server is healthy again. */
  readonly line: LineShare;
  readonly log: Logger;
}

export class HealthChecks {
  readonly #options: HealthChecksOptions;
  readonly #line: Line;
  readonly #series = new Map<string, CheckSeries>();

  constructor(options: HealthChecksOptions) {
    this.#options = options;
    this.#line = new Line(options.line);
  }

  /** Checks these servers from now on, and no others. */
  set servers(servers: readonly CheckedServer[]) {
    const wanted = new Map(servers.map((server) => [formatEndpoint(server.endpoint), server]));
    for (const [key, series] of this.#series) {
      if (wanted.has(key)) continue;
      series.stop();
      this.#series.delete(key);
    }
    for (const [key, server] of wanted) {
      if (!this.#series.has(key)) this.#series.set(key, new CheckSeries(server, this.#options, this.#line));
    }
  }

  stop(): void {
    this.servers = [];
  }
}

/** The checks of one server, one after the other, until stop(). */
class CheckSeries {
  readonly #server: CheckedServer;
  readonly #options: HealthChecksOptions;
  readonly #line: Line;
  /** Checks in a row that said the opposite of what the server counts as. */
  #against = 0;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;

  constructor(server: CheckedServer, options: HealthChecksOptions, line: Line) {
    this.#server = server;
    this.#options = options;
    this.#line = line;
    void this.#check();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #check(): Promise<void> {
    const { endpoint, host } = this.#server;
    const { intervalMs, timeoutMs, path } = this.#options.config;
    const begunMs = nowMs();
    const problem = await checkServer({ server: endpoint, timeoutMs, path, host });
    if (this.#isStopped) return;
    this.#judge(problem);
    this.#timer = setTimeout(() => void this.#check(), begunMs + intervalMs - nowMs()).unref();
  }

  #judge(problem: string | undefined): void {
    const { state, endpoint } = this.#server;
    const { upstream, config, log } = this.#options;
    const isGood = problem === undefined;
    const isFirst = state.beginChecked();
    if (isGood && state.onReached()) {
      log.info({ upstream, server: formatEndpoint(endpoint) }, "server used again: it accepts connections");
      this.#line.callAll();
    }
    this.#against = isGood === state.isUnhealthy ? this.#against + 1 : 0;
    const needed = isGood ? config.healthyAfter : config.unhealthyAfter;
    if (this.#against < (isFirst ? 1 : needed)) return;
    this.#against = 0;
    state.isUnhealthy = !isGood;
    if (isGood) {
      log.info({ upstream, server: formatEndpoint(endpoint) }, "server healthy again: its checks succeed");
      this.#line.callAll();
    } else {
      log.warn({ upstream, server: formatEndpoint(endpoint), problem }, "server unhealthy: its checks fail");
    }
  }
}
