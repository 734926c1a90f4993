import { isDeepStrictEqual } from "node:util";
import type { Config, Listener, Upstream } from "./schema.ts";

/** What became of the named entries of one section. `changed` and `unchanged` are entries of the new config. */
export type SectionDiff<T> = {
  readonly added: readonly T[];
  readonly removed: readonly T[];
  readonly changed: readonly { readonly from: T; readonly to: T }[];
  readonly unchanged: readonly T[];
};

/** A key of the process as a whole, everything but listeners and upstreams. */
export type Setting = Exclude<keyof Config, "listeners" | "upstreams">;

/** What a reload has to do; order within a section is that of the config the entries are taken from. */
export type ConfigDiff = {
  readonly listeners: SectionDiff<Listener>;
  readonly upstreams: SectionDiff<Upstream>;
  readonly settings: readonly Setting[];
};

/**
 * Compares two configurations by the names of their listeners and upstreams. A listener whose upstream
 * changed is itself unchanged; a new order of the entries changes nothing. Pure.
 */
export function diffConfig(from: Config, to: Config): ConfigDiff {
  const { listeners: fromListeners, upstreams: fromUpstreams, ...fromSettings } = from;
  const settings = Object.keys(fromSettings) as Setting[];
  return {
    listeners: diffSection(fromListeners, to.listeners),
    upstreams: diffSection(fromUpstreams, to.upstreams),
    settings: settings.filter((key) => !isDeepStrictEqual(from[key], to[key])),
  };
}

function diffSection<T extends { readonly name: string }>(
  from: readonly T[],
  to: readonly T[],
): SectionDiff<T> {
  const before = new Map(from.map((entry) => [entry.name, entry]));
  const after = new Set(to.map((entry) => entry.name));
  const kept = to.flatMap((entry) => {
    const old = before.get(entry.name);
    return old === undefined ? [] : [{ from: old, to: entry }];
  });
  return {
    added: to.filter((entry) => !before.has(entry.name)),
    removed: from.filter((entry) => !after.has(entry.name)),
    changed: kept.filter((pair) => !isDeepStrictEqual(pair.from, pair.to)),
    unchanged: kept.filter((pair) => isDeepStrictEqual(pair.from, pair.to)).map((pair) => pair.to),
  };
}
