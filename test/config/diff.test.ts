// What a reload does follows from diffConfig() alone, so its sections must account for every entry.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { diffConfig } from "../../config/diff.ts";
import { parseConfig } from "../../config/load.ts";
import type { Config } from "../../config/schema.ts";

// Names with a letter for each listener (and its upstream) and a number for the settings it has.
function config(entries: string, extra: Readonly<Record<string, unknown>> = {}): Config {
  const split = entries.split(" ").filter((entry) => entry !== "");
  const result = parseConfig(
    JSON.stringify({
      listeners: split.map((entry) => ({
        name: entry[0],
        bind: "127.0.0.1:0",
        upstream: entry[0],
        takeAfter: `${entry[1]}ms`,
      })),
      upstreams: Object.fromEntries(
        split.map((entry) => [
          entry[0],
          { servers: [{ address: "10.0.0.7:80" }], pool: { min: Number(entry[2]) } },
        ]),
      ),
      ...extra,
    }),
    "test.yaml",
  );
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config;
}

const names = (entries: readonly { readonly name: string }[]) => entries.map((entry) => entry.name).join("");
const changes = (pairs: readonly { readonly to: { readonly name: string } }[]) =>
  names(pairs.map((pair) => pair.to));

const diff = suite("config: diff");

for (const [given, from, to, want] of [
  ["the same config", "a11 b11", "a11 b11", ["", "", "", "ab", "", "", "", "ab"]],
  ["another order", "a11 b11", "b11 a11", ["", "", "", "ba", "", "", "", "ba"]],
  ["an entry more", "a11", "a11 b11", ["b", "", "", "a", "b", "", "", "a"]],
  ["an entry less", "a11 b11", "b11", ["", "a", "", "b", "", "a", "", "b"]],
  ["a listener changed", "a11 b11", "a21 b11", ["", "", "a", "b", "", "", "", "ab"]],
  ["an upstream changed", "a11 b11", "a12 b11", ["", "", "", "ab", "", "", "a", "b"]],
  ["a rename", "a11", "b11", ["b", "a", "", "", "b", "a", "", ""]],
] as const) {
  diff(`given ${given}, then each entry is in its section`, () => {
    const { listeners, upstreams, settings } = diffConfig(config(from), config(to));
    const found = [listeners, upstreams].flatMap((s) => [
      names(s.added),
      names(s.removed),
      changes(s.changed),
      names(s.unchanged),
    ]);
    assert.equal(found, [...want]);
    assert.equal(settings, []);
  });
}

diff("given a changed entry, then both of its values", () => {
  const [pair] = diffConfig(config("a11"), config("a21")).listeners.changed;
  assert.is(pair?.from.takeAfterMs, 1);
  assert.is(pair?.to.takeAfterMs, 2);
});

diff("given other settings, then their names", () => {
  const extra = { drainTimeout: "1s", log: { level: "warn" }, admin: {}, workers: 2 };
  const { settings } = diffConfig(config("a11"), config("a11", extra));
  assert.equal(settings.toSorted(), ["admin", "drainTimeoutMs", "log", "workers"]);
});

diff("given any two configs, then every entry is in exactly one section", () => {
  const entries = fc
    .uniqueArray(fc.tuple(fc.constantFrom(..."abcdef"), fc.constantFrom("11", "12", "21")), {
      minLength: 1,
      selector: ([name]) => name,
    })
    .map((list) => config(list.map((entry) => entry.join("")).join(" ")));
  fc.assert(
    fc.property(entries, entries, (from, to) => {
      for (const section of ["listeners", "upstreams"] as const) {
        const { added, removed, changed, unchanged } = diffConfig(from, to)[section];
        const sorted = (text: string) => [...text].sort().join("");
        assert.is(sorted(names(added) + changes(changed) + names(unchanged)), sorted(names(to[section])));
        assert.is(sorted(names(removed) + changes(changed) + names(unchanged)), sorted(names(from[section])));
      }
    }),
  );
});

diff.run();
