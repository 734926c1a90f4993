/** What the log says of one pool: a line for each change of its state, however often the state flutters. */
import { formatEndpoint } from "../native/address.ts";
import { PAUSE_NEWS_INTERVAL } from "./limits.ts";
import type { Logger } from "./logger.ts";
import type { PoolSpec } from "./pool-spec.ts";
import { Seldom } from "./seldom.ts";

export class PoolNews {
  /** Fields that say which pool a line is about. */
  readonly named: { readonly upstream: string; readonly server: string };
  readonly #log: Logger;
  /** Of a learned destination, which nobody chose, only what concerns its upstream is news: a scan has thousands. */
  readonly #isLearned: boolean;
  readonly #pauses = new Seldom(PAUSE_NEWS_INTERVAL);
  /** What was said last. */
  #said: "nothing" | "ready" | "paused" | "blackholed" = "nothing";

  constructor({ upstream, server, budget }: PoolSpec, log: Logger) {
    this.#isLearned = budget !== undefined;
    this.named = { upstream, server: formatEndpoint(server) };
    this.#log = log;
  }

  /** It has what it shall have at least. */
  ready(halfOpen: number): void {
    if (this.#said === "ready") return;
    this.#said = "ready";
    const level = this.#isLearned ? "debug" : "info";
    this.#log[level]({ ...this.named, halfOpen }, "half-opens ready");
  }

  /** The upstream is left alone for a while. Told of each time, so that what was not said is said at a later one. */
  paused(reason: string, nowMs: number): void {
    if (this.#said === "paused") return;
    const unsaid = this.#pauses.due(nowMs);
    if (unsaid === undefined) return;
    this.#said = "paused";
    const level = this.#isLearned ? "debug" : "warn";
    this.#log[level]({ ...this.named, reason, ...(unsaid > 0 && { unsaid }) }, "half-opens paused");
  }

  /** First data vanish. */
  blackholed(pauseMs: number): void {
    this.#said = "blackholed";
    const fields = { ...this.named, pauseMs };
    this.#log.warn(fields, "first data on half-opens vanishes, connecting in the ordinary way");
  }

  resumed(): void {
    this.#log.info(this.named, "accelerating again after a pause");
  }

  /** The upstream's SYN queue is full. */
  lowered(ceiling: number): void {
    this.#log.warn({ ...this.named, ceiling }, "upstream drops SYNs, holding fewer half-opens");
  }

  raised(): void {
    this.#log.info(this.named, "holding as many half-opens as configured again");
  }

  cookies(found: boolean): void {
    const message = found
      ? "upstream answers with SYN cookies"
      : "upstream no longer answers with SYN cookies";
    this.#log.info(this.named, message);
  }
}
