/**
 * Measures responses of 100 kB to the last byte over connections that were kept half-open for a while, next to
 * ordinary ones, and what the server's sockets looked like meanwhile. For the test and the soak of that name.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import type { NamedTarget } from "../../bench/load/generator.ts";
import { median } from "../../bench/load/percentiles.ts";
import { runLoadOn, startOrigin } from "../../bench/load/processes.ts";
import { type ProxyProcess, World } from "./world.ts";

export const RTT_MS = 40;
const PORT = 8080;
const SIZE = 100_000;
const POOL = 6;
/** ss leaves out an RTO of 3 s: what a server has that knows nothing of the path (TCP_TIMEOUT_FALLBACK). */
const RTO_NOT_SHOWN_MS = 3_000;
const LOAD = { rate: 8, durationMs: 1_500, size: SIZE, timeoutMs: 10_000 };

/** One connection as the server saw it, from `ss -tin`. */
interface ServerSocket {
  readonly peerPort: number;
  /** Congestion window before anything but the SYN-ACK was acknowledged; undefined when not seen so early. */
  readonly firstCwnd: number | undefined;
  readonly rtoMaxMs: number;
  readonly congestionControl: string;
}

export interface LastByte {
  /** Of the last bytes, in ms from when their requests were due. */
  readonly acceleratedMs: readonly number[];
  readonly directMs: readonly number[];
  readonly errors: readonly string[];
  /** Sessions without a half-open connection. */
  readonly misses: number;
  readonly sockets: readonly ServerSocket[];
  /** By how many round trips an accelerated one was faster than an ordinary one, by their medians. */
  readonly savedRtts: number;
  /** The same for the slowest accelerated one. */
  readonly savedRttsMin: number;
}

export async function createLastByteWorld(): Promise<World> {
  const world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  await startOrigin(world.far, PORT);
  return world;
}

/** Makes the server's connections to the near host use this congestion control, by its route. */
export async function setServerCongestionControl(world: World, name: string): Promise<void> {
  const route = ["route", "replace", `${world.near.address()}/32`, "dev", "wan0", "congctl", name];
  const { code, stderr } = await world.far.run("ip", route);
  if (code !== 0) throw new Error(`ip ${route.join(" ")}: ${stderr}`);
}

/**
 * A proxy with POOL half-opens to the origin, all of them ready and its code compiled. The server has had ordinary
 * connections from this host by then: it remembers their RTT (tcp_metrics) for those that bring it no sample.
 */
export async function startLastByteProxy(world: World): Promise<ProxyProcess> {
  const proxy = await world.proxy(`
listeners: [{ name: web, bind: "127.0.0.1:0", upstream: origin }]
upstreams:
  origin: { servers: [{ address: "${world.far.address()}:${PORT}" }], pool: { min: ${POOL} } }`);
  await proxy.ready();
  await runLoadOn(world.near, {
    ...LOAD,
    targets: targetsOf(world, proxy),
    durationMs: 1_000,
    rate: 60,
    seed: 2,
  });
  return proxy;
}

function targetsOf(world: World, proxy: ProxyProcess): NamedTarget[] {
  return [
    { name: "direct", host: world.far.address(), port: PORT },
    { name: "accelerated", host: "127.0.0.1", port: proxy.port("web") },
  ];
}

/** Leaves the pool alone for `idleMs`, then sends requests in turn through the proxy and past it. */
export async function measureLastByte(world: World, proxy: ProxyProcess, idleMs: number): Promise<LastByte> {
  await new Promise((resolve) => setTimeout(resolve, idleMs));
  const before = (await proxy.status()).pools[0]!.misses;
  const observer = observe(world);
  const { samples } = await runLoadOn(world.near, { ...LOAD, targets: targetsOf(world, proxy), seed: 1 });
  const lastBytes = (name: string): number[] => samples[name]?.flatMap((s) => s.lastByteMs ?? []) ?? [];
  const acceleratedMs = lastBytes("accelerated");
  const directMs = lastBytes("direct");
  return {
    acceleratedMs,
    directMs,
    errors: Object.values(samples).flatMap((list) => list.flatMap(({ error }) => error ?? [])),
    misses: (await proxy.status()).pools[0]!.misses - before,
    sockets: await observer.stop(),
    savedRtts: (median(directMs) - median(acceleratedMs)) / RTT_MS,
    savedRttsMin: (median(directMs) - Math.max(...acceleratedMs)) / RTT_MS,
  };
}

/** Asks the far host for the state of the origin's connections, every few milliseconds until stop(). */
function observe(world: World): { stop(): Promise<readonly ServerSocket[]> } {
  const ask = `while sleep 0.008; do ss -tinHO state established "( sport = :${PORT} )"; done`;
  const child: ChildProcess = world.far.spawn("sh", ["-c", ask], { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(child, "close");
  const output = text(child.stdout!);
  return {
    async stop() {
      child.kill();
      await closed;
      return readSockets(await output);
    },
  };
}

/** Reads what `ss -tinHO` printed, one line for each connection and look. */
function readSockets(output: string): ServerSocket[] {
  const sockets = new Map<number, ServerSocket>();
  for (const line of output.split("\n")) {
    const [, peer, congestionControl = ""] = /:\d+ +\S+:(\d+) +(\w+) /.exec(line) ?? [];
    const number = (name: string): number =>
      Number(new RegExp(` ${name}:([\\d.]+)`).exec(line)?.[1] ?? Number.NaN);
    if (peer === undefined) continue;
    const peerPort = Number(peer);
    const rtoMs = Number.isNaN(number("rto")) ? RTO_NOT_SHOWN_MS : number("rto");
    const known = sockets.get(peerPort);
    const acked = number("bytes_acked");
    const isYoung = Number.isNaN(acked) || acked <= 1;
    sockets.set(peerPort, {
      peerPort,
      congestionControl,
      firstCwnd: known ? known.firstCwnd : isYoung ? number("cwnd") : undefined,
      rtoMaxMs: Math.max(known?.rtoMaxMs ?? 0, rtoMs),
    });
  }
  return [...sockets.values()];
}
