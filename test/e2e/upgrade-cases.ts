/** What upgrade.test.ts and the soak of the same name share: a proxy's configuration, load while it is upgraded. */
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { Peer } from "./peer.ts";
import type { LoadReport } from "./upgrade-load.ts";
import { type ProxyProcess, World } from "./world.ts";

export interface UpgradeWorld {
  readonly world: World;
  /** One listener, l, in front of an echoing server. */
  readonly config: string;
}

export interface Load {
  /** Long sessions, each asking every `everyMs`. */
  readonly sessions: number;
  readonly everyMs: number;
  /** New connections a second. */
  readonly rate: number;
}

export async function createUpgradeWorld(): Promise<UpgradeWorld> {
  const world = await World.create({ links: [{ between: ["near", "far"], rttMs: 2 }] });
  const origin = await Peer.start(world, "far");
  const echo = await origin.listen({ behaviour: "echo" }, 0, "0.0.0.0", 4_096);
  const config = `
listeners: [{ name: l, bind: "127.0.0.1:0", upstream: o }]
upstreams: { o: { servers: [{ address: "10.77.0.2:${echo.port}" }], pool: { min: 4 } } }
`;
  return { world, config };
}

/** Load until `work` is done; its report. */
export async function under(
  world: World,
  proxy: ProxyProcess,
  { sessions, rate, everyMs }: Load,
  work: () => Promise<void>,
): Promise<LoadReport> {
  const args = ["127.0.0.1", ...[proxy.port("l"), sessions, rate, everyMs].map(String)];
  const load = world.program("near", new URL("./upgrade-load.ts", import.meta.url), args);
  await proxy.until("sessions", async () => (await proxy.status()).listeners[0]!.active >= sessions);
  await work();
  load.stdin!.write("end\n");
  const crashed = once(load, "exit").then(() => {
    throw new Error("the load ended without a report");
  });
  const [report] = (await Promise.race([once(load, "message"), crashed])) as [LoadReport];
  return report;
}

export function describe({ connections, bytes, longestMs }: LoadReport): string {
  const sorted = [...longestMs].sort((a, b) => a - b);
  const p99 = sorted[Math.ceil(0.99 * sorted.length) - 1]!;
  return `${connections} connections, ${bytes} bytes, longest echo of a session p99 ${p99.toFixed(1)} ms`;
}

/** The process that `pid` started, if there is one. */
export function heirOf(pid: number): number | undefined {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean),
  );
  return children[0] === undefined ? undefined : Number(children[0]);
}
