// docs/operating/configure.md and config/example.yaml are written by hand; this keeps them complete and true.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parse } from "yaml";
import { parseConfig } from "../../config/load.ts";
import { formatConfig } from "../../config/print.ts";
import { formatProblem } from "../../config/problems.ts";
import { keysByPlace } from "../../config/schema.ts";
import { rows } from "../docs/documents.ts";

const root = new URL("../../", import.meta.url);
const manual = readFileSync(new URL("docs/operating/configure.md", root), "utf8");
const example = readFileSync(new URL("config/example.yaml", root), "utf8");

const titles: Readonly<Record<string, string>> = {
  "": "## Top level",
  "listeners[]": "## `listeners[]`",
  "listeners[].proxyProtocol": "### `listeners[].proxyProtocol`",
  "listeners[].tls[]": "### `listeners[].tls[]`",
  "listeners[].routes[]": "### `listeners[].routes[]`",
  "listeners[].intercept": "### `listeners[].intercept`",
  "upstreams.*": "## `upstreams.NAME`",
  "upstreams.*.servers[]": "### `upstreams.NAME.servers[]`",
  "upstreams.*.tls": "### `upstreams.NAME.tls`",
  "upstreams.*.pool": "### `upstreams.NAME.pool`",
  "upstreams.*.health": "### `upstreams.NAME.health`",
  "upstreams.*.learned": "### `upstreams.NAME.learned`",
  admin: "## `admin`",
  log: "## `log`",
};

const docs = suite("config: documentation");

for (const [place, keys] of keysByPlace) {
  docs(
    `given the keys of ${place || "the top level"}, then the manual's table has exactly these, in this order`,
    () => {
      const title = titles[place];
      const section = manual.split(`\n${title}\n`)[1]?.split(/\n##/)[0] ?? "";
      const documented = [...section.matchAll(/^\| `(\w+)` \|/gm)].map((row) => row[1]!);
      assert.equal(documented, keys);
    },
  );
}

/** Effective configurations: with nothing but what is required, and with every part that may be left out. */
const effective = [
  `listeners: [{ name: web, bind: "127.0.0.1:1", upstream: o }]
upstreams: { o: { servers: [{ address: "10.0.0.1:1" }] } }`,
  `listeners: [{ name: web, bind: "127.0.0.1:1", mode: http, upstream: o, tls: [{ cert: a, key: b }], routes: [{ upstream: o }] }]
upstreams: { o: { servers: [{ address: "10.0.0.1:1" }], tls: {}, health: {} } }
admin: {}`,
].map((text): unknown => {
  const result = parseConfig(text, "defaults.yaml");
  if (!result.ok) throw new Error(result.problems.map(formatProblem).join());
  return parse(formatConfig(result.config));
});

/** What is at a place like upstreams.*.servers[], the first of several. */
function at(config: unknown, place: string): Readonly<Record<string, unknown>> | undefined {
  const steps = place.split(/\.|(?=\[\])/).filter((step) => step !== "");
  let found = config;
  for (const step of steps) {
    if (typeof found !== "object" || found === null) return undefined;
    found = step === "*" || step === "[]" ? Object.values(found)[0] : Reflect.get(found, step);
  }
  return found as Readonly<Record<string, unknown>> | undefined;
}

const shown = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

for (const place of keysByPlace.keys()) {
  docs(`given the defaults of ${place || "the top level"} in the manual, then they are the program's`, () => {
    const section = manual.split(`\n${titles[place]}\n`)[1]?.split(/\n##/)[0] ?? "";
    const values = effective.map((config) => at(config, place)).find((found) => found != null);
    for (const [key = "", , told = ""] of rows(section, 4)) {
      const isOwn = ["required", "absent", ""].includes(told);
      if (!isOwn) assert.is(`\`${shown(values?.[key.slice(1, -1)])}\``, told, key);
    }
  });
}

docs("given the manual's example of problems, then it is what the checks say", () => {
  const text = [
    "listeners:",
    "  - name: web",
    '    bind: "127.0.0.1:8001"',
    "    upsteam: origin",
    "    takeAfter: 10",
    "upstreams: { origin: { servers: [{ address: 10.0.0.7:80 }] } }",
  ].join("\n");
  const result = parseConfig(text, "proxy.yaml");
  const lines = result.ok ? [] : result.problems.map(formatProblem);
  for (const line of manual.split("\n").filter((line) => line.startsWith("proxy.yaml:")))
    assert.ok(lines.includes(line), line);
});

docs("given the example file, then it has every key", () => {
  for (const key of [...keysByPlace.values()].flat()) {
    assert.match(example, new RegExp(`^[ -]*${key}:`, "m"));
  }
});

docs.run();
