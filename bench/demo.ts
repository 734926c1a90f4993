/**
 * The demo: two hosts 40 ms apart on this machine, an HTTP origin on the far one, accelproxy on the near one,
 * and fresh connections both ways in turn. Exit 0 when the accelerated first byte took at most RATIO_MAX of the
 * direct one, 1 when not or when something failed, 77 when this machine cannot run a lab, 130 after Ctrl-C.
 */
import { spawnSync } from "node:child_process";
import { constants } from "node:os";
import { DemoProxy, LISTENER, ORIGIN_PORT } from "./demo-proxy.ts";
import { type DemoSamples, formatTable, judge } from "./demo-report.ts";
import { type Host, Lab, LabError } from "./lab/lab.ts";
import type { Sample } from "./load/generator.ts";
import { median } from "./load/percentiles.ts";
import { runLoadOn, startOrigin } from "./load/processes.ts";

const RTT_MS = 40;
const REQUESTS_PER_SECOND = 20;
const DURATION_MS = 14_000;
const RESPONSE_BYTES = 1_000;

const EXIT = { good: 0, failed: 1, unavailable: 77 } as const;

const isTerminal = process.stdout.isTTY;

const say = (text: string): void => void process.stdout.write(`${text}\n`);

/** By a signal: what fails from then on does so because the lab is being closed. */
let isStopped = false;

async function main(): Promise<number> {
  await using lab = await Lab.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  const near = lab.host("near");
  const far = lab.host("far");
  const stop = (signal: NodeJS.Signals): void => {
    isStopped = true;
    say("");
    void lab.close().then(() => process.exit(128 + constants.signals[signal]));
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stop);

  say(`two hosts, ${RTT_MS} ms apart (round trip): near ${near.address()}, far ${far.address()}`);
  await startOrigin(far, ORIGIN_PORT);
  say(`an HTTP origin on far, port ${ORIGIN_PORT}`);
  const proxy = await DemoProxy.start(near, say);
  say(`accelproxy --config config/demo.yaml on near, port ${LISTENER.port}`);

  const before = await proxy.filled();
  const samples = await measure(near, far);
  const after = await proxy.pool();
  say(formatTable(samples, { hits: after.hits - before.hits, misses: after.misses - before.misses }));
  const verdict = judge(samples, RTT_MS);
  say(`\n${verdict.sentence}`);
  await proxy.stop();
  return verdict.isGood ? EXIT.good : EXIT.failed;
}

/** Sends requests to the origin and to the proxy in turn, and shows how it goes. */
async function measure(near: Host, far: Host): Promise<DemoSamples> {
  const targets = [
    { name: "direct", host: far.address(), port: ORIGIN_PORT },
    { name: "accelerated", ...LISTENER },
  ];
  const seconds = DURATION_MS / 1e3;
  say(`a fresh connection for each request, in turn, ${REQUESTS_PER_SECOND} a second for ${seconds} s\n`);
  const seen: Record<string, number[]> = { direct: [], accelerated: [] };
  const onSample = (target: string, { firstByteMs }: Sample): void => {
    if (firstByteMs !== null) seen[target]?.push(firstByteMs);
    const shown = Object.entries(seen)
      .filter(([, values]) => values.length > 0)
      .map(([name, values]) => `${name} ${values.length} × ${median(values).toFixed(1)} ms`);
    process.stdout.write(`\r${shown.join("   ")}   `);
  };
  const options = {
    targets,
    rate: REQUESTS_PER_SECOND,
    durationMs: DURATION_MS,
    seed: 1,
    size: RESPONSE_BYTES,
    timeoutMs: 5_000,
  };
  const { samples } = await runLoadOn(near, options, isTerminal ? onSample : undefined);
  if (isTerminal) say("\n");
  return { direct: samples.direct ?? [], accelerated: samples.accelerated ?? [] };
}

/** An ordinary user gets the rights to make a network from a user namespace of his own. */
function runInUserNamespace(): number {
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const { status, signal, error } = spawnSync("unshare", ["-Urn", ...command], { stdio: "inherit" });
  if (error === undefined && status !== null) return status;
  if (signal !== null) return 128 + constants.signals[signal];
  process.stderr.write(`demo: unshare: ${error?.message} (install util-linux, or run this as root)\n`);
  return EXIT.unavailable;
}

if (process.geteuid?.() === 0) {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (!isStopped) process.stderr.write(`demo: ${error.message}\n`);
    const isUnavailable = error instanceof LabError && error.code === "ACCEL_LAB_UNAVAILABLE";
    process.exitCode = isUnavailable ? EXIT.unavailable : EXIT.failed;
  }
} else {
  process.exitCode = runInUserNamespace();
}
