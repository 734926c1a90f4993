// Goal: whatever ends a benchmark, all that it started ends with it: proxies, origins, load, its lab, its folder.
// Method: the built program; once it measures, a signal; then a search of all processes for a mark in the
// environment that only its descendants have.
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { build } from "../../scripts/build.mjs";

const program = new URL("../../dist/bench/bench.js", import.meta.url).pathname;
const START_LIMIT_MS = 20_000;
const END_LIMIT_MS = 10_000;

interface Run {
  readonly child: ChildProcess;
  readonly mark: string;
  readonly said: string[];
}

const bench = suite<{ folder: string }>("benchmark command");
bench.before(() => build());
bench.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), "accelproxy-test-"));
});
bench.after.each(({ folder }) => rmSync(folder, { recursive: true, force: true }));

function start(folder: string, args: readonly string[]): Run {
  const mark = `ACCEL_TEST_MARK=${randomUUID()}`;
  const env = { ...process.env, TMPDIR: folder, ACCEL_TEST_MARK: mark.split("=")[1] };
  const child = spawn(process.execPath, [program, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => said.push(line));
  }
  return { child, mark, said };
}

/** Processes that descend from a run, with their names. */
function descendants(mark: string): string[] {
  return readdirSync("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const has = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(mark);
      return has ? [readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ")] : [];
    } catch {
      return []; // ended meanwhile
    }
  });
}

async function until(what: string, limitMs: number, isTrue: () => boolean): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const) {
  bench(
    `given ${signal} while it measures, then all of it is gone and it exits ${code}`,
    async ({ folder }) => {
      const { child, mark, said } = start(folder, ["latency", "--quick", "--json", join(folder, "out.json")]);
      const ended = once(child, "exit");
      await until("a measurement", START_LIMIT_MS, () =>
        said.some((line) => line.startsWith("latency: RTT")),
      );
      assert.ok(descendants(mark).length >= 4, "the origin, the proxy, the load and the lab run");
      child.kill(signal);
      assert.equal((await ended)[0], code, said.join("\n"));
      await until("the end of all processes", END_LIMIT_MS, () => descendants(mark).length === 0);
      assert.equal(readdirSync(folder), []);
    },
  );
}

bench("given a wrong name, then it exits 2 and says which there are", async ({ folder }) => {
  const { child, said } = start(folder, ["latencies"]);
  const [code] = (await once(child, "close")) as [number];
  assert.is(code, 2);
  assert.match(
    said.join("\n"),
    /no benchmark "latencies"[\s\S]*latency, rate, http, throughput, pool, repair/,
  );
});

bench.run();
