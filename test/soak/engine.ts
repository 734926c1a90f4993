/**
 * The engine for ten minutes: some two million connections, half of them on each driver, both at the same time. Random
 * lengths, half-closes, and resets by either side; every byte is checked at both ends (engine-peers.ts). The proxies'
 * memory is sampled and must not grow after the first minute. Writes bench/results/soak-engine.json, which
 * `npm run bench -- report` plots; exit 1 with a problem.
 *
 *   npm run soak -- engine [--quick]      (--quick: a minute, and nothing is written)
 */
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { median } from "../../bench/load/percentiles.ts";
import { rowsOf } from "../../bench/measure/compare.ts";
import { describeMachine, writeResult } from "../../bench/measure/result.ts";
import { root } from "../../bench/root.ts";
import { type ProxyProcess, World } from "../e2e/world.ts";

const DRIVERS = ["io_uring", "epoll"] as const;
const RATE = 1_750;
const SAMPLE_SECONDS = 5;
const GROWTH_MAX_BYTES = 4 << 20;
const GROWTH_MAX_SHARE = 0.02;
const METRICS = { "resident memory": "VmRSS", "heap and buffers": "RssAnon" } as const;
type Metric = keyof typeof METRICS;

const isQuick = process.argv.includes("--quick");
const seconds = isQuick ? 60 : 600;
/** What is the steady state is told by the sample after this. */
const warmUpSeconds = isQuick ? 20 : 60;

interface Counts {
  readonly started: number;
  readonly skipped: number;
  readonly bytes: number;
  readonly plans: Readonly<Record<string, number>>;
  readonly problems: number;
  readonly done?: readonly string[];
}

/** One driver's proxy with the peers around it. */
class Lane {
  readonly name: (typeof DRIVERS)[number];
  readonly proxy: ProxyProcess;
  readonly memory: Record<Metric, number[]> = { "resident memory": [], "heap and buffers": [] };
  readonly #peers: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  counts: Counts | undefined;

  private constructor(
    name: Lane["name"],
    proxy: ProxyProcess,
    peers: ChildProcess,
    lines: AsyncIterator<string>,
  ) {
    this.name = name;
    this.proxy = proxy;
    this.#peers = peers;
    this.#lines = lines;
  }

  static async start(world: World, name: Lane["name"], seed: number): Promise<Lane> {
    const script = new URL("./engine-peers.ts", import.meta.url);
    const peers = world.program("box", script, [RATE, seconds, seed].map(String));
    const lines = createInterface({ input: peers.stdout! })[Symbol.asyncIterator]();
    const { port } = JSON.parse((await lines.next()).value as string) as { port: number };
    const servers = [1, 2, 3, 4].map((host) => `{ address: "127.0.1.${host}:${port}" }`);
    const pool = "{ min: 32, max: 256, maxSynRate: 2000 }";
    const config = `
listeners: [{ name: soak, bind: "0.0.0.0:0", upstream: peers }]
upstreams: { peers: { servers: [${servers.join(", ")}], pool: ${pool} } }
driver: ${name}
log: { level: info }`;
    const proxy = await world.proxy(config, { host: "box" });
    await proxy.ready();
    return new Lane(name, proxy, peers, lines);
  }

  async run(): Promise<void> {
    this.#peers.stdin!.write(`${this.proxy.port("soak")}\n`);
    const sampler = setInterval(() => this.#sample(), SAMPLE_SECONDS * 1e3);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new Error(`the peers of ${this.name} ended`);
      this.counts = JSON.parse(value) as Counts;
      if (this.counts.done !== undefined) break;
    }
    clearInterval(sampler);
  }

  #sample(): void {
    const status = readFileSync(`/proc/${this.proxy.child.pid}/status`, "utf8");
    for (const [metric, field] of Object.entries(METRICS)) {
      const kib = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
      this.memory[metric as Metric].push(Number(kib) * 1024);
    }
  }

  /** What is wrong with it, as text. */
  async problems(): Promise<string[]> {
    const found = [...(this.counts?.done ?? [])];
    const bad = this.proxy.log.filter(({ level }) => level >= 40).map((line) => JSON.stringify(line));
    found.push(...bad, ...this.proxy.stderr);
    const { listeners } = await this.proxy.status();
    if (listeners.some(({ active }) => active > 0)) found.push("sessions are left");
    const samples = this.memory["resident memory"].slice(warmUpSeconds / SAMPLE_SECONDS);
    const [early, late] = [median(samples.slice(0, 6)), median(samples.slice(-6))];
    if (late > early * (1 + GROWTH_MAX_SHARE) + GROWTH_MAX_BYTES)
      found.push(`memory grew from ${mib(early)} to ${mib(late)} MiB`);
    if ((await this.proxy.stop()) !== 0) found.push("the proxy did not end well");
    return found.map((text) => `${this.name}: ${text}`);
  }

  async report(): Promise<void> {
    const { started = 0, bytes = 0, skipped = 0, plans, problems } = this.counts ?? {};
    const pools = (await this.proxy.status()).pools;
    const hits = pools.reduce((sum, pool) => sum + pool.hits, 0);
    const series = this.memory["resident memory"].map(mib).join(" ");
    console.log(
      `${this.name}: ${started} connections (${skipped} not begun), ${(bytes / 1e9).toFixed(1)} GB checked, ${hits} accelerated`,
    );
    console.log(
      `  ${JSON.stringify(plans)}, ${problems} problems; resident MiB every ${SAMPLE_SECONDS} s: ${series}`,
    );
  }
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

const startedMs = performance.now();
const world = await World.create({ hosts: ["box"] });
world.lab.host("box").sysctl({ "net.ipv4.ip_local_port_range": "10240 65535" });
const lanes: Lane[] = [];
for (const [index, name] of DRIVERS.entries()) lanes.push(await Lane.start(world, name, index + 1));
await Promise.all(lanes.map((lane) => lane.run()));
for (const lane of lanes) await lane.report();
const problems = (await Promise.all(lanes.map((lane) => lane.problems()))).flat();
await world.close();
if (!isQuick) {
  const connections = lanes.reduce((sum, { counts }) => sum + (counts?.started ?? 0), 0);
  const rows = (Object.keys(METRICS) as Metric[]).flatMap((metric) =>
    rowsOf({
      case: `${connections.toLocaleString("en")} connections in ${seconds / 60} minutes`,
      parameters: { intervalSeconds: SAMPLE_SECONDS, connections, problems: problems.length },
      metric,
      unit: "MiB",
      baseline: null,
      samples: Object.fromEntries(
        lanes.map(({ name, memory }) => [name, memory[metric].map((bytes) => bytes / 2 ** 20)]),
      ),
    }),
  );
  const durationSeconds = Math.round((performance.now() - startedMs) / 1e3);
  const head = { name: "soak-engine", quick: false, date: new Date().toISOString(), durationSeconds };
  const file = `${root}bench/results/soak-engine.json`;
  writeResult(file, { ...head, ...describeMachine(), peers: {}, skipped: [], rows });
  console.log(`written to ${file}`);
}
for (const problem of problems) console.log(`PROBLEM ${problem}`);
console.log(problems.length === 0 ? "no problem" : `${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;
