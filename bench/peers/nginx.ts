import { existsSync } from "node:fs";
import { run } from "./haproxy.ts";
import { findProgram, type Peer, stopProcess, untilListening, writeConfig } from "./peer.ts";

const STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so";

export function nginx(
  name: string,
  template: string,
  values: () => Readonly<Record<string, string | number>> = () => ({}),
): Peer {
  const isStream = template.includes("stream");
  return {
    name,
    missing() {
      if (findProgram("nginx") === undefined) return "nginx is not installed";
      if (isStream && !hasStream()) return "nginx has no stream module (libnginx-mod-stream)";
      return undefined;
    },
    version: () => /nginx\/([\d.]+)/.exec(run("nginx", "-v"))?.[1] ?? "?",
    async start(options) {
      const module = existsSync(STREAM_MODULE) ? `load_module ${STREAM_MODULE};` : "";
      const config = await writeConfig(options, template, { STREAM_MODULE: module, ...values() });
      const child = options.host.spawn(findProgram("nginx")!, ["-p", options.folder, "-c", config], {
        stdio: ["ignore", "ignore", "pipe"],
      });
      await untilListening(name, child, options.port);
      return { name, pid: child.pid!, port: options.port, stop: () => stopProcess(child) };
    },
  };
}

function hasStream(): boolean {
  return existsSync(STREAM_MODULE) || / --with-stream( |$)/m.test(run("nginx", "-V"));
}

export const nginxStream = nginx("nginx stream", "nginx-stream.conf");
export const nginxHttp = nginx("nginx http, keepalive", "nginx-http.conf");
