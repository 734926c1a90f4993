/**
 * SYN cookies of one destination: notices them (cookie-watch.ts for certain, cookie-stamps.ts at once), marks the
 * entries that are cookies so that takers seed them, and tells the pool's block.
 */
import { CookieStamps } from "./cookie-stamps.ts";
import { CookieWatch, type Finding } from "./cookie-watch.ts";
import { ENTRY, OPTION_COOKIE } from "./entry-table.ts";
import type { KeeperServices } from "./keeper.ts";
import type { LiveEntry } from "./live-entry.ts";
import type { Offers } from "./offers.ts";
import type { PoolBlock } from "./pool-block.ts";
import type { PoolNews } from "./pool-news.ts";
import type { RttEstimator } from "./rtt.ts";

export interface CookieGuardParts {
  readonly services: KeeperServices;
  readonly block: PoolBlock;
  readonly offers: Offers;
  readonly rtt: RttEstimator;
  readonly news: PoolNews;
}

export class CookieGuard {
  readonly #parts: CookieGuardParts;
  readonly #watch: CookieWatch;
  readonly #stamps = new CookieStamps();

  constructor(parts: CookieGuardParts) {
    this.#parts = parts;
    this.#watch = new CookieWatch(parts.rtt);
  }

  /** The entry left unrefreshed now; it is not offered. */
  get canary(): LiveEntry | undefined {
    return this.#watch.canary;
  }

  /** Whether a SYN-ACK with this TSval is a cookie, as far as is known. */
  looksMade(tsval: number | undefined): boolean {
    return this.#stamps.looksMade(tsval ?? 0);
  }

  /** A new SYN was answered. At the first sign of cookies, `ready` entries of before it are marked late. */
  onFirstAnswer(tsval: number | undefined, ready: Iterable<LiveEntry>, nowMs: number): void {
    if (tsval === undefined || !this.#stamps.learn(tsval)) return;
    const { table } = this.#parts.services;
    this.#watch.suspect(nowMs);
    for (const { index } of ready) {
      if (!this.#stamps.looksMade(table.getU32(index, ENTRY.synackTsval))) continue;
      table.set(index, ENTRY.options, table.get(index, ENTRY.options) | OPTION_COOKIE);
    }
  }

  /** Leaves one of the `ready` entries unrefreshed, when it is time to look. */
  startCanary(ready: ReadonlySet<LiveEntry>, nowMs: number): void {
    if (!this.#watch.due(nowMs) || ready.size < 2) return;
    const { services, offers, rtt } = this.#parts;
    for (const entry of this.#canaries(ready)) {
      if (offers.wasTaken(entry) || entry.attempts > 0 || !offers.withdraw(entry)) continue;
      const synackAgeMs = ((nowMs | 0) - services.table.get(entry.index, ENTRY.synackAt)) | 0;
      const synackAtMs = nowMs - synackAgeMs;
      entry.sentAtMs = synackAtMs - rtt.srttMs;
      services.schedule(this.#watch.start(entry, nowMs, synackAtMs), entry);
      return;
    }
  }

  /** A SYN-ACK for the canary; `solicited` when its SYN had been sent again. What it tells, if anything yet. */
  onCanaryAnswer(sameIrs: boolean, solicited: boolean): Finding | undefined {
    return this.#watch.onAnswer(sameIrs, solicited);
  }

  /** The canary is done with; whoever calls gives its entry up. */
  endCanary(finding: Finding, nowMs: number): void {
    const { block, news } = this.#parts;
    const found = this.#watch.end(finding, nowMs);
    if (found === undefined || found === (block.get("cookies") === 1)) return;
    block.set("cookies", found ? 1 : 0);
    if (found) block.add("cookieSightings");
    news.cookies(found);
  }

  /** The entry ended some other way. */
  forget(entry: LiveEntry): void {
    this.#watch.forget(entry);
  }

  /** Those that look like cookies first: the rest may be stateful all the same. */
  *#canaries(ready: Iterable<LiveEntry>): Iterable<LiveEntry> {
    const { table } = this.#parts.services;
    for (const entry of ready) if (table.get(entry.index, ENTRY.options) & OPTION_COOKIE) yield entry;
    yield* ready;
  }
}
