// docs/operating/configure.md and config/example.yaml are written by hand; this keeps them complete and true.
import { readFileSync } from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseConfig } from "../../config/load.ts";
import { formatProblem } from "../../config/problems.ts";
import { keysByPlace } from "../../config/schema.ts";

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

docs("given the example file, then it has every key except those of later versions", () => {
  const later = new Set("sourceAddress".split(" "));
  for (const key of [...keysByPlace.values()].flat()) {
    assert.is(new RegExp(`^[ -]*${key}:`, "m").test(example), !later.has(key), key);
  }
});

docs.run();
