/** What reload.test.ts and the soak of the same name share: two configurations that differ in every way, and a load. */
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import * as assert from "uvu/assert";
import type { ReloadResult } from "../../proxy/status.ts";
import { Peer } from "./peer.ts";
import type { LoadReport } from "./upgrade-load.ts";
import { type ProxyProcess, World } from "./world.ts";

/** Between two reloads. */
const EVERY_MS = 80;
/** Where clients connect, under either configuration. */
const PORTS = [8001, 8002, 8003, 8004, 8005, 8006];

export interface ReloadWorld {
  readonly world: World;
  readonly configs: readonly [string, string];
  /** Of the upstream. */
  readonly port: number;
}

export async function createReloadWorld(): Promise<ReloadWorld> {
  const world = await World.create({ links: [{ between: ["near", "far"], rttMs: 2 }] });
  const origin = await Peer.start(world, "far");
  const { port } = await origin.listen({ behaviour: "echo" }, 0, "0.0.0.0", 4_096);
  const servers = `servers: [{ address: "10.77.0.2:${port}" }]`;
  const first = `
listeners:
  - { name: kept, bind: "127.0.0.1:8001", upstream: kept }
  - { name: set, bind: "127.0.0.1:8002", upstream: kept }
  - { name: wide, bind: "0.0.0.0:8003", upstream: changed }
  - { name: old, bind: "127.0.0.1:8004", upstream: changed }
  - { name: swapped, bind: "127.0.0.1:8005", upstream: kept }
  - { name: with, bind: "127.0.0.1:8006", upstream: kept }
  - { name: gone, bind: "127.0.0.1:8007", upstream: removed }
upstreams:
  kept: { ${servers} }
  changed: { ${servers}, pool: { min: 4 } }
  removed: { ${servers} }
`;
  const second = `
listeners:
  - { name: kept, bind: "127.0.0.1:8001", upstream: kept }
  - { name: set, bind: "127.0.0.1:8002", upstream: added, takeAfter: 5ms, maxConnections: 5000 }
  - { name: wide, bind: "127.0.0.1:8003", upstream: changed }
  - { name: new, bind: "127.0.0.1:8004", upstream: changed }
  - { name: swapped, bind: "127.0.0.1:8006", upstream: kept }
  - { name: with, bind: "127.0.0.1:8005", upstream: kept }
  - { name: also, bind: "[::1]:8007", upstream: added }
upstreams:
  kept: { ${servers} }
  changed: { ${servers}, pool: { min: 3, max: 16 }, connectTimeout: 3s }
  added: { ${servers} }
`;
  return { world, configs: [first, second], port };
}

/** Starts the proxy on the first configuration; its main thread says what keeps its loop alive when asked. */
export function startWatched({ world, configs }: ReloadWorld): Promise<ProxyProcess> {
  const preload = new URL("./resources-watch.mjs", import.meta.url).href;
  return world.proxy(configs[0], { prefix: ["env", `NODE_OPTIONS=--import=${preload}`] });
}

/** Writes the configuration and has it reloaded by POST /reload; the file keeps what World.proxy() added. */
export async function reload(proxy: ProxyProcess, file: string, config: string): Promise<ReloadResult> {
  const added = readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => /^(admin|driver):/.test(line));
  await writeFile(file, `${config}\n${added.join("\n")}\n`);
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: proxy.adminSocket, method: "POST", path: "/reload" }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve(JSON.parse(text) as ReloadResult));
    });
    asked.on("error", reject).end();
  });
}

/** Clients of every port until `work` is done: what each port's saw. */
export async function underLoad(
  world: World,
  { sessions, rate }: { readonly sessions: number; readonly rate: number },
  work: () => Promise<void>,
): Promise<readonly LoadReport[]> {
  const script = new URL("./upgrade-load.ts", import.meta.url);
  const loads = PORTS.map((port) => {
    const share = [sessions, rate].map((count) => String(Math.ceil(count / PORTS.length)));
    return world.program("near", script, ["127.0.0.1", String(port), ...share, "50"]);
  });
  const reports = loads.map(async (load) => {
    const crashed = once(load, "exit").then(() => {
      throw new Error("the load ended without a report");
    });
    return ((await Promise.race([once(load, "message"), crashed])) as [LoadReport])[0];
  });
  await work();
  for (const load of loads) load.stdin!.write("end\n");
  return Promise.all(reports);
}

/** What the process holds: descriptors, threads, and what keeps its main loop alive, by kind. */
export interface Holding {
  readonly descriptors: number;
  readonly threads: number;
  readonly resources: Readonly<Record<string, number>>;
}

export async function holdingOf(proxy: ProxyProcess): Promise<Holding> {
  const said = (): string[] => proxy.stderr.filter((line) => line.startsWith("resources "));
  const before = said().length;
  process.kill(proxy.pid, "SIGWINCH");
  const line = await proxy.until("resources", () => said()[before]);
  return {
    descriptors: readdirSync(`/proc/${proxy.pid}/fd`).length,
    threads: readdirSync(`/proc/${proxy.pid}/task`).length,
    resources: JSON.parse(line.slice("resources ".length)) as Record<string, number>,
  };
}

/** Half-opens that the upstream's kernel has, and those the proxy says it holds. */
export async function halfOpens(
  { world, port }: ReloadWorld,
  proxy: ProxyProcess,
): Promise<{ readonly there: number; readonly here: number }> {
  const { stdout } = await world.far.run("ss", ["-tanH", "state", "syn-recv", `( sport = :${port} )`]);
  const there = stdout.split("\n").filter((line) => line !== "").length;
  const { pools } = await proxy.status();
  return { there, here: pools.reduce((sum, { halfOpen }) => sum + halfOpen, 0) };
}

/** Ports in stock and connections of the admin interface come and go; what each reload left would be one for each. */
const DESCRIPTORS_SLACK = 4;

export function assertNothingLeft(before: Holding, after: Holding): void {
  const { descriptors, ...rest } = after;
  const { descriptors: limit, ...wanted } = before;
  assert.equal(rest, wanted);
  assert.ok(descriptors <= limit + DESCRIPTORS_SLACK, `${descriptors} descriptors after ${limit}`);
}

export interface ReloadReport {
  readonly failures: readonly string[];
  readonly connections: number;
  /** When all was quiet. */
  readonly before: Holding;
  readonly after: Holding;
  readonly half: { readonly there: number; readonly here: number };
}

/**
 * Reloads `times` under load, the two configurations in turn, and ends with the first. What the process holds is compared
 * when all is quiet: before, and after.
 */
export async function reloadUnderLoad(
  given: ReloadWorld,
  load: { readonly sessions: number; readonly rate: number },
  times: number,
): Promise<ReloadReport> {
  const { world, configs } = given;
  const proxy = await startWatched(given);
  const file = `${world.folder}/proxy${world.count}.yaml`;
  await proxy.ready();
  const turn = async (index: number): Promise<void> => {
    const result = await reload(proxy, file, configs[(index + 1) % 2]!);
    if (!result.ok) throw new Error(`reload ${index}: ${result.problems.join("; ")}`);
  };
  // Once each way, so that everything has been used before it is counted.
  const quiet = async (): Promise<Holding> => {
    await proxy.until("quiet", async () => {
      const { there, here } = await halfOpens(given, proxy);
      const { listeners } = await proxy.status();
      return there === here && listeners.every(({ active }) => active === 0);
    });
    return holdingOf(proxy);
  };
  await underLoad(world, load, async () => {
    await turn(0);
    await turn(1);
  });
  const before = await quiet();
  const reports = await underLoad(world, load, async () => {
    for (let index = 0; index < times; index++) {
      await turn(index);
      await sleep(EVERY_MS);
    }
  });
  await proxy
    .until("as before", async () => {
      const now = await quiet();
      return (
        now.descriptors <= before.descriptors &&
        JSON.stringify(now.resources) === JSON.stringify(before.resources)
      );
    })
    .catch(() => undefined); // the caller's comparison says in what it differs
  const after = await quiet();
  const half = await halfOpens(given, proxy);
  await proxy.stop();
  return {
    failures: reports.flatMap(({ failures }) => failures),
    connections: reports.reduce((sum, { connections, sessions }) => sum + connections + sessions, 0),
    before,
    after,
    half,
  };
}
