import { spawnSync } from "node:child_process";
import { findProgram, type Peer, stopProcess, untilListening, writeConfig } from "./peer.ts";

function haproxy(name: string, template: string, values: Readonly<Record<string, string>> = {}): Peer {
  return {
    name,
    missing: () => (findProgram("haproxy") ? undefined : "haproxy is not installed"),
    version: () => /version ([\d.]+\S*)/.exec(run("haproxy", "-v"))?.[1] ?? "?",
    async start(options) {
      const config = await writeConfig(options, template, values);
      const child = options.host.spawn(findProgram("haproxy")!, ["-db", "-f", config], {
        stdio: ["ignore", "ignore", "pipe"],
      });
      await untilListening(name, child, options.port);
      return { name, pid: child.pid!, port: options.port, stop: () => stopProcess(child, "SIGINT") };
    },
  };
}

/** Output of a program, both streams; empty when it is not there. */
export function run(name: string, ...args: string[]): string {
  const { stdout, stderr } = spawnSync(findProgram(name) ?? name, args, { encoding: "utf8" });
  return `${stdout ?? ""}${stderr ?? ""}`;
}

export const haproxyTcp = haproxy("HAProxy tcp", "haproxy-tcp.cfg");
export const haproxyNever = haproxy("HAProxy http, reuse never", "haproxy-http.cfg", { REUSE: "never" });
export const haproxyReuse = haproxy("HAProxy http, reuse", "haproxy-http.cfg", { REUSE: "always" });
