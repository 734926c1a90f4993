// Goal: every session moves to another host with its addresses, and no byte is lost or doubled; a target that refuses, or
// that nobody trusts, leaves all of them where they are.
// Method: three hosts on a bridge in namespaces of our own, the built program on two of them, sessions from and to the
// third that check every byte. Whoever moves the address here is the test.
import { type ChildProcess, execFileSync, type StdioOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { build } from "../../scripts/build.mjs";
import type { LoadReport } from "../e2e/upgrade-load.ts";
import { ProxyProcess } from "../e2e/world.ts";
import { runCommand } from "../proxy/command.ts";

const CLI = new URL("../../dist/proxy/cli.js", import.meta.url).pathname;
const LOAD = new URL("../e2e/upgrade-load.ts", import.meta.url).pathname;
const PRELOAD = new URL("../../scripts/typescript.mjs", import.meta.url).href;
const ECHO = `require("net").createServer({ allowHalfOpen: true, noDelay: true }, (s) => {
  s.on("error", () => {}); s.pipe(s); }).listen(9000, "0.0.0.0", 4096, () => console.log("up"));`;

const SESSIONS = 30;
const MOVING = "10.9.0.100";
type Name = "source" | "target" | "peer";
const HOSTS: readonly Name[] = ["source", "target", "peer"];

interface Context {
  folder: string;
  /** Keeps each host's namespace. */
  hosts: Record<Name, ChildProcess>;
  children: ChildProcess[];
}

const shell = (command: string): void => void execFileSync("sh", ["-c", command], { stdio: "pipe" });

const moving = suite<Context>("move");

moving.before(async (context) => {
  build();
  context.folder = mkdtempSync(join(tmpdir(), "accelproxy-move-"));
  context.children = [];
  const hosts: Partial<Record<Name, ChildProcess>> = {};
  shell("ip link add br0 type bridge && ip link set br0 up");
  for (const [index, name] of HOSTS.entries()) {
    const child = spawn("unshare", ["-n", "sh", "-c", "ip link set lo up; echo up; exec cat"]);
    hosts[name] = child;
    await once(child.stdout, "data");
    shell(
      `ip link add v${index} type veth peer name eth0 netns ${child.pid}; ip link set v${index} master br0 up`,
    );
    shell(
      `nsenter -t ${child.pid} -n sh -c "ip link set eth0 up; ip addr add 10.9.0.${index + 1}/24 dev eth0"`,
    );
  }
  context.hosts = hosts as Record<Name, ChildProcess>;
  await runCommand(["keys", join(context.folder, "keys")]);
  await runCommand(["keys", join(context.folder, "other")]);
  const echo = start(context, "peer", ["-e", ECHO]);
  await once(echo.stdout!, "data");
});

moving.after.each(({ children, hosts }) => {
  for (const child of children.splice(1)) child.kill("SIGKILL");
  for (const name of ["source", "target"] as const) {
    shell(
      `nsenter -t ${hosts[name].pid} -n sh -c "ip addr del ${MOVING}/24 dev eth0; nft flush ruleset" || true`,
    );
  }
  shell(`nsenter -t ${hosts.peer.pid} -n ip neigh flush all`);
});

moving.after(({ folder, hosts, children }) => {
  for (const child of [...children, ...Object.values(hosts)]) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

function start({ hosts, children }: Context, name: Name, args: readonly string[], ipc = false): ChildProcess {
  const stdio: StdioOptions = ["pipe", "pipe", "pipe", ...(ipc ? (["ipc"] as const) : [])];
  const child = spawn("nsenter", ["-t", String(hosts[name].pid), "-n", process.execPath, ...args], { stdio });
  children.push(child);
  return child;
}

function takeAddress({ hosts }: Context, name: Name): void {
  // Upstream connections must come from the address that moves, too.
  const route = `ip route add 10.9.0.3/32 dev eth0 src ${MOVING}`;
  shell(`nsenter -t ${hosts[name].pid} -n sh -c "ip addr add ${MOVING}/24 dev eth0 && ${route}"`);
}

function proxy(context: Context, name: Name, args: readonly string[] = []): ProxyProcess {
  const admin = join(context.folder, `${name}.sock`);
  const file = join(context.folder, `${name}.yaml`);
  writeFileSync(
    file,
    `
listeners: [{ name: l, bind: "${MOVING}:8001", upstream: o }]
upstreams: { o: { servers: [{ address: "10.9.0.3:9000" }], pool: { min: 4 } } }
admin: { bind: "unix:${admin}" }
`,
  );
  return new ProxyProcess(start(context, name, [CLI, "--config", file, ...args]), admin);
}

async function move(context: Context, source: ProxyProcess): Promise<{ code: number | null; text: string }> {
  const keys = join(context.folder, "keys");
  const admin = `unix:${source.adminSocket}`;
  const args = [CLI, "checkpoint", "--to", "10.9.0.2:7000", "--keys", keys, "--admin", admin];
  const child = start(context, "source", args);
  let text = "";
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
  }
  const [code] = (await once(child, "close")) as [number | null];
  return { code, text };
}

/** Runs `work` under sessions through the source, and returns what became of them. */
async function under(context: Context, source: ProxyProcess, work: () => Promise<void>): Promise<LoadReport> {
  const args = ["--import", PRELOAD, LOAD, MOVING, "8001", String(SESSIONS), "0", "20"];
  const load = start(context, "peer", args, true);
  await source.until("sessions", async () => (await source.status()).listeners[0]!.active === SESSIONS);
  await work();
  await sleep(200);
  load.stdin!.write("end\n");
  const [report] = (await once(load, "message")) as [LoadReport];
  return report;
}

async function sourceAndTarget(
  context: Context,
  keys: string,
): Promise<{ source: ProxyProcess; target: ProxyProcess }> {
  takeAddress(context, "source");
  const source = proxy(context, "source");
  const target = proxy(context, "target", [
    "--receive",
    "10.9.0.2:7000",
    "--keys",
    join(context.folder, keys),
  ]);
  await source.until("listening", () => source.said("listening").length > 0);
  await target.until("receiving", () => target.said("waiting for sessions").length > 0);
  return { source, target };
}

/** Has the peer count announcements of the moving address: requests for itself, which nobody else's ARP asks. */
function countAnnouncements({ hosts }: Context): () => number {
  const nft = (command: string): string =>
    execFileSync("nsenter", ["-t", String(hosts.peer.pid), "-n", "nft", command], { encoding: "utf8" });
  nft("add table arp heard; add chain arp heard input { type filter hook input priority 0; }");
  nft(`add rule arp heard input arp saddr ip ${MOVING} arp daddr ip ${MOVING} counter`);
  return () => Number(/packets (\d+)/.exec(nft("list table arp heard"))?.[1]);
}

moving("given a move with its address, then every session goes on at the other host", async (context) => {
  const { source, target } = await sourceAndTarget(context, "keys");
  const announcements = countAnnouncements(context);
  const report = await under(context, source, async () => {
    const { code, text } = await move(context, source);
    assert.is(code, 0, text);
    assert.match(text, new RegExp(`^${SESSIONS} sessions in \\d+ ms: 10\\.9\\.0\\.2:7000`));
    shell(`nsenter -t ${context.hosts.source.pid} -n ip addr del ${MOVING}/24 dev eth0`);
    takeAddress(context, "target");
    await target.until("moved", () => target.said("sessions moved here").length > 0);
    assert.is(await source.ended(), 0);
  });
  const sorted = [...report.longestMs].sort((a, b) => a - b);
  console.log(`  ${report.bytes} bytes, longest echo p99 ${sorted.at(-1)!.toFixed(0)} ms`);
  assert.equal(report.failures, []);
  const [moved] = target.said("sessions moved here");
  assert.is(moved!.restored, SESSIONS);
  assert.is(moved!.announced, 1);
  assert.is(announcements(), 1);
});

moving("given a target that dies before it confirmed, or other keys, then sessions stay", async (context) => {
  const { source, target } = await sourceAndTarget(context, "other");
  const report = await under(context, source, async () => {
    const stranger = await move(context, source);
    assert.is(stranger.code, 1);
    assert.match(stranger.text, /no checkpoint: 10\.9\.0\.2:7000 cannot be reached|the other host is lost/);
    await target.until(
      "said so",
      () => target.said("somebody without our certificate is turned away").length > 0,
    );
    await target.stop("SIGKILL");
    const nobody = await move(context, source);
    assert.is(nobody.code, 1);
    assert.match(nobody.text, /ECONNREFUSED/);
    // One that takes what comes and says nothing right.
    const rubbish = `
const tls = require("tls"), fs = require("fs"), dir = ${JSON.stringify(join(context.folder, "keys"))};
const [key, cert] = ["move.key", "move.crt"].map((name) => fs.readFileSync(dir + "/" + name));
const ready = Buffer.from("a2646b696e646572656164796770726f6772616d6178", "hex");
tls.createServer({ key, cert, ca: cert, requestCert: true }, (s) => {
  s.on("error", () => {}); s.write(Buffer.concat([Buffer.from([0, 0, 0, ready.length]), ready]));
  setTimeout(() => s.destroy(), 300); s.resume();
}).listen(7000, "10.9.0.2", () => console.log("up"));`;
    const liar = start(context, "target", ["-e", rubbish]);
    await once(liar.stdout!, "data");
    const lost = await move(context, source);
    assert.is(lost.code, 1);
    assert.match(lost.text, /the other host is lost/);
  });
  assert.equal(report.failures, []);
  assert.is((await source.status()).workers > 0, true);
});

moving.run();
