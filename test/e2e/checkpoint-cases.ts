/** What the checkpoint tests and the soak of the same name share: a proxy that is put away and comes back. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createUpgradeWorld } from "./upgrade-cases.ts";
import type { ProxyOptions, ProxyProcess, World } from "./world.ts";

const CLI = new URL("../../dist/proxy/cli.js", import.meta.url).pathname;

export interface CheckpointWorld {
  readonly world: World;
  /** One listener, l, on a port that stays, in front of an echoing server. */
  readonly config: string;
  readonly dir: string;
}

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export async function createCheckpointWorld(): Promise<CheckpointWorld> {
  const { world, config } = await createUpgradeWorld();
  const dir = join(world.folder, "images");
  await mkdir(dir, { mode: 0o700 });
  return { world, config: config.replace("127.0.0.1:0", "127.0.0.1:8001"), dir };
}

/** `accelproxy checkpoint --dir`. */
export function checkpoint(world: World, proxy: ProxyProcess, dir: string): Promise<Ran> {
  return world.near.run(process.execPath, [
    CLI,
    "checkpoint",
    ...["--dir", dir],
    ...["--admin", `unix:${proxy.adminSocket}`],
  ]);
}

/** A proxy started with `--restore`, once its sessions go on. */
export async function restore(
  { world, config, dir }: CheckpointWorld,
  options: ProxyOptions = {},
): Promise<ProxyProcess> {
  const proxy = await world.proxy(config, { ...options, args: ["--restore", dir] });
  await proxy.until("restored", () => proxy.said("sessions restored").length > 0);
  return proxy;
}

export const hasImages = (dir: string): boolean => existsSync(join(dir, "sessions.images"));

/** The rules on the proxy's host: none but the guard's. */
export async function ruleset(world: World): Promise<string> {
  return (await world.near.run("nft", ["list", "ruleset"])).stdout;
}
