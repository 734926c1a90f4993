import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { DelayLineClient } from "./delay-line-client.ts";
import type { FilterSpec } from "./filter.ts";
import type { ImpairmentSettings } from "./impairment.ts";
import { LabError } from "./lab-error.ts";
import type { LinkCounters } from "./protocol.ts";
import type { LinkPlan } from "./topology.ts";

/** Settings of a link; those not named keep their values. */
export interface LinkSettings extends Partial<ImpairmentSettings> {
  /** Both directions get half of it as `delayMs`. */
  readonly rttMs?: number;
}

/** The line between two hosts. Every change holds from the next packet that enters. */
export class Link {
  readonly hosts: readonly [string, string];
  readonly #client: DelayLineClient;
  readonly #index: number;

  constructor(client: DelayLineClient, index: number, plan: LinkPlan) {
    this.#client = client;
    this.#index = index;
    this.hosts = plan.hosts;
  }

  /**
   * Changes both directions, or with `from` the one that leaves this host. Rejects with LabError
   * ACCEL_LAB_USAGE for values out of range.
   */
  async set(settings: LinkSettings, options: { readonly from?: string } = {}): Promise<void> {
    const { from } = options;
    if (from !== undefined) this.#requireHost(from);
    await this.#client.ask({ op: "set", link: this.#index, from, change: impairmentOf(settings) });
  }

  /**
   * Puts a filter in place of the one before, with counters at zero. Rejects with LabError ACCEL_LAB_USAGE for
   * a rule or module that makes no sense, ACCEL_LAB_FAILED when the module cannot be loaded.
   */
  async setFilter(filter: FilterSpec): Promise<void> {
    for (const rule of filter.rules ?? []) if (rule.from !== undefined) this.#requireHost(rule.from);
    const module = filter.module === undefined ? {} : { module: moduleUrl(filter.module) };
    await this.#client.ask({ op: "filter", link: this.#index, filter: { ...filter, ...module } });
  }

  async clearFilter(): Promise<void> {
    await this.#client.ask({ op: "filter", link: this.#index, filter: undefined });
  }

  /** What has passed since the lab began, and the filter's counts since it was set. */
  async counters(): Promise<LinkCounters> {
    return (await this.#client.ask({ op: "counters", link: this.#index })) as LinkCounters;
  }

  /**
   * Starts a capture at each host named: the file holds what tcpdump would see there. What the host sends is
   * dated when it enters the line, lost packets included; what it receives when it leaves the line. Read them
   * with readPcap() after stopRecording().
   */
  async record(paths: Readonly<Record<string, string>>): Promise<void> {
    const absolute = Object.entries(paths).map(([host, path]) => {
      this.#requireHost(host);
      return [host, resolve(path)] as const;
    });
    await this.#client.ask({ op: "record", link: this.#index, paths: Object.fromEntries(absolute) });
  }

  /** Ends the captures; their files are complete when this resolves. */
  async stopRecording(): Promise<void> {
    await this.#client.ask({ op: "record", link: this.#index, paths: {} });
  }

  #requireHost(host: string): void {
    if (this.hosts.includes(host)) return;
    throw new LabError("ACCEL_LAB_USAGE", `host "${host}" is not at an end of ${this.hosts.join("–")}`);
  }
}

/** Replaces `rttMs` by the delay of one direction. */
export function impairmentOf(settings: LinkSettings): Partial<ImpairmentSettings> {
  const { rttMs, ...impairment } = settings;
  return rttMs === undefined ? impairment : { delayMs: rttMs / 2, ...impairment };
}

function moduleUrl(module: string | URL): string {
  if (module instanceof URL) return module.href;
  return module.startsWith("file:") ? module : pathToFileURL(resolve(module)).href;
}
