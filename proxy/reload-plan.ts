/** What a reload has to do, beyond what two configurations say. */
import { isDeepStrictEqual } from "node:util";
import type { ConfigDiff, SectionDiff } from "../config/diff.ts";
import type { Config, Listener } from "../config/schema.ts";
import type { HttpFiles } from "./http/files.ts";

/** Settings that only a restart changes. */
const RESTART_ONLY = new Set(["acceleration", "workers", "httpWorkers", "driver", "user", "admin", "log"]);

/** Those that changed, and wait for the next start. */
export function waitingSettings({ settings }: ConfigDiff): readonly string[] {
  return settings.filter((setting) => RESTART_ONLY.has(setting));
}

/** The same sockets do, used in the same way: workers of one kind accept, and TLS is spoken or not. */
export function sameSockets(a: Listener, b: Listener): boolean {
  const isSameUse = a.mode === b.mode && a.tls.length > 0 === b.tls.length > 0;
  return isSameUse && a.bind.host === b.bind.host && a.bind.port === b.bind.port;
}

export function usesHttp({ listeners }: Config): boolean {
  return listeners.some(({ mode }) => mode === "http");
}

/** What changed, counting in those whose files did. */
export function withFiles(diff: ConfigDiff, before: HttpFiles, now: HttpFiles): ConfigDiff {
  const { listeners, upstreams } = diff;
  return {
    ...diff,
    listeners: changedToo(
      listeners,
      ({ name }) => !isDeepStrictEqual(before.certificates.get(name), now.certificates.get(name)),
    ),
    upstreams: changedToo(
      upstreams,
      ({ name }) => before.authorities.get(name) !== now.authorities.get(name),
    ),
  };
}

function changedToo<T>(section: SectionDiff<T>, isChanged: (entry: T) => boolean): SectionDiff<T> {
  const changed = section.unchanged.filter(isChanged).map((entry) => ({ from: entry, to: entry }));
  const unchanged = section.unchanged.filter((entry) => !isChanged(entry));
  return { ...section, changed: [...section.changed, ...changed], unchanged };
}
