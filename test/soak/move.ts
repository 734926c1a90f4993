/**
 * Moves 1,000 sessions between two hosts of the lab, RTT 1 ms, with an address that is taken over. Prints how long they
 * stood still; exit 1 when a session ended, a byte was lost or doubled, a rule was left, or the pause of the 99th
 * percentile was longer than 100 ms.
 *
 *   npm run soak -- move [SESSIONS] [MOVES]
 *
 * Clients and upstream are on a third host with a line to each of the two. It routes the address to the one that has it,
 * as the network would after an announcement. The pause is what sessions feel: the longest wait for an echo since shortly
 * before the move, of each; those that asked at its beginning felt all of it, which is why the 99th percentile tells.
 */
import { type ChildProcess, execFileSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Host } from "../../bench/lab/host.ts";
import { Peer } from "../e2e/peer.ts";
import type { LoadReport } from "../e2e/upgrade-load.ts";
import { World } from "../e2e/world.ts";
import { runCommand } from "../proxy/command.ts";

const [sessions = "1000", moves = "3"] = process.argv.slice(2);
const CLI = new URL("../../dist/proxy/cli.js", import.meta.url).pathname;
const MOVING = "10.88.0.100";
const PEER = "10.88.0.1";
const EVERY_MS = 500;
const SETTLE_MS = 2_000;
const START_LIMIT_MS = 60_000;
const PAUSE_MAX_MS = 100;
const RTT_MS = 1;

/** A command that waits on `host` for its moment, so that starting a shell is not part of it. */
class Prepared {
  readonly #child: ChildProcess;

  constructor(host: Host, command: string) {
    this.#child = host.spawn("sh", ["-c", `read go && ${command}`], {
      stdio: ["pipe", "inherit", "inherit"],
    });
  }

  async run(): Promise<void> {
    this.#child.stdin!.write("go\n");
    const [code] = await once(this.#child, "exit");
    if (code !== 0) throw new Error(`a command ended with ${code}`);
  }
}

const shell = async (host: Host, command: string): Promise<void> => {
  const { code, stderr } = await host.run("sh", ["-c", command]);
  if (code !== 0) throw new Error(`${command}: ${stderr}`);
};
const percentile = (sorted: readonly number[], part: number): number =>
  sorted[Math.ceil(part * sorted.length) - 1] ?? 0;

/** One move; returns what clients report and what the proxies say about it. */
async function moveOnce(): Promise<{ report: LoadReport; sourceMs: string; rules: string }> {
  await using world = await World.create({
    hosts: ["peer", "source", "target"],
    links: [
      { between: ["peer", "source"], rttMs: RTT_MS },
      { between: ["peer", "target"], rttMs: RTT_MS },
      { between: ["source", "target"], rttMs: RTT_MS },
    ],
  });
  const [peer, source, target] = ["peer", "source", "target"].map((name) => world.lab.host(name)) as [
    Host,
    Host,
    Host,
  ];
  const keys = join(world.folder, "keys");
  await runCommand(["keys", keys]);
  const takeOver = `ip addr add ${MOVING}/32 dev lo && ip route add ${PEER}/32 dev wan0 src ${MOVING}`;
  const route = (line: string): string => `ip route replace ${MOVING}/32 dev ${line} src ${PEER}`;
  await shell(peer, `ip addr add ${PEER}/32 dev lo && ${route("wan0")}`);
  await shell(source, takeOver);
  const origin = await Peer.start(world, "peer");
  const echo = await origin.listen({ behaviour: "echo" }, 0, "0.0.0.0", 4_096);
  const config = `
listeners: [{ name: l, bind: "${MOVING}:8001", upstream: o }]
upstreams: { o: { servers: [{ address: "${PEER}:${echo.port}" }], pool: { min: 4 } } }
`;
  const from = await world.proxy(config, { host: "source" });
  const receive = `${target.address(4, "source")}:7000`;
  const to = await world.proxy(config, {
    host: "target",
    args: ["--receive", receive, "--keys", keys],
    until: "waiting for sessions",
  });
  const load = world.program("peer", new URL("../e2e/upgrade-load.ts", import.meta.url), [
    MOVING,
    ...["8001", sessions, "0", String(EVERY_MS)],
  ]);
  const isUnder = async (): Promise<boolean> =>
    (await from.status()).listeners[0]!.active === Number(sessions);
  await from.until("sessions", isUnder, START_LIMIT_MS);
  await sleep(SETTLE_MS);
  const switching = [new Prepared(target, takeOver), new Prepared(peer, route("wan1"))];
  load.stdin!.write("mark\n");
  await sleep(SETTLE_MS / 4);
  const asked = source.run(process.execPath, [
    ...[CLI, "checkpoint", "--to", receive, "--keys", keys],
    ...["--admin", `unix:${from.adminSocket}`],
  ]);
  const refused = asked.then(({ code, stderr }) => {
    if (code !== 0) throw new Error([stderr, ...from.stderr, ...to.stderr].join("\n"));
  });
  await Promise.race([
    refused.then(() => sleep(START_LIMIT_MS)),
    to.until(
      "arrival",
      () => to.said("all sessions are here, waiting for their addresses").length > 0,
      START_LIMIT_MS,
    ),
  ]);
  await Promise.all(switching.map((command) => command.run()));
  await to.until("moved", () => to.said("sessions moved here").length > 0, START_LIMIT_MS);
  const { stdout } = await asked;
  await sleep(SETTLE_MS);
  load.stdin!.write("end\n");
  const [report] = (await once(load, "message")) as [LoadReport];
  const rules = (await target.run("nft", ["list", "ruleset"])).stdout;
  console.log(`${JSON.stringify(to.said("sessions moved here")[0])}`);
  await to.stop();
  return { report, sourceMs: stdout.trim(), rules };
}

execFileSync("ip", ["-V"]); // iproute2 is needed
for (let turn = 0; turn < Number(moves); turn++) {
  const { report, sourceMs, rules } = await moveOnce();
  const sorted = [...report.longestMs].sort((a, b) => a - b);
  const p99 = percentile(sorted, 0.99);
  console.log(
    `${sourceMs}; longest echo of a session p50 ${percentile(sorted, 0.5).toFixed(1)}, p99 ${p99.toFixed(1)}, max ${sorted.at(-1)?.toFixed(1)} ms`,
  );
  if (report.failures.length > 0 || rules !== "" || p99 > PAUSE_MAX_MS) {
    console.log(report.failures.slice(0, 5), rules.slice(0, 500));
    process.exitCode = 1;
  }
}
process.exit();
