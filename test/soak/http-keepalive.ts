/**
 * An upstream that gives idle connections up after 1 s, 40 ms away, under requests that come about then: what clients get
 * through accelproxy with reuse, through nginx with keepalive, and with Node's own Agent. Exit 1 when a request through
 * accelproxy got anything but 200.
 *
 *   npm run soak -- http-keepalive [SECONDS]
 */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findProgram } from "../../bench/peers/peer.ts";
import { World } from "../e2e/world.ts";

const SECONDS = Number(process.argv[2] ?? 300);
const LANES = 24;
const NGINX_PORT = 18_733;

const world = await World.create({ links: [{ between: ["near", "far"], rttMs: 40 }] });
const origin = world.program("far", new URL("../e2e/keepalive-origin.ts", import.meta.url));
const [port] = (await once(origin, "message")) as [number];
const proxy = await world.proxy(`
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o }]
upstreams: { o: { servers: [{ address: "10.77.0.2:${port}" }], reuse: 5s } }
log: { level: info }`);
await proxy.ready();
const targets = [`accelproxy=${proxy.port("web")}=127.0.0.1`, `Node Agent=${port}=10.77.0.2`];
const nginx = findProgram("nginx");
if (nginx !== undefined) {
  const file = join(world.folder, "nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  await writeFile(
    file,
    `daemon off; user root; pid ${world.folder}/nginx.pid; error_log /dev/null;
events {}
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${world.folder}/nginx-${name};`).join(" ")}
  upstream origin { server 10.77.0.2:${port}; keepalive 64; keepalive_timeout 5s; }
  server {
    listen 127.0.0.1:${NGINX_PORT};
    location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://origin; }
  }
}`,
  );
  world.near.spawn(nginx, ["-p", world.folder, "-c", file], { stdio: "ignore" });
  await sleep(500);
  targets.push(`nginx=${NGINX_PORT}=127.0.0.1`);
}
const script = new URL("../e2e/keepalive-traffic.ts", import.meta.url);
const traffic = world.program("near", script, [String(SECONDS), String(LANES), ...targets]);
const [counts] = (await once(traffic, "message")) as [Record<string, Record<string, number>>];
const connects = new Map<unknown, number>();
for (const { connect } of proxy.said("request")) connects.set(connect, (connects.get(connect) ?? 0) + 1);
await world.close();
for (const [name, seen] of Object.entries(counts)) console.log(`${name}: ${JSON.stringify(seen)}`);
console.log(`connections of accelproxy: ${JSON.stringify(Object.fromEntries(connects))}`);
const failed = Object.keys(counts.accelproxy ?? {}).filter((key) => !key.endsWith(" 200"));
if (failed.length > 0) console.log(`PROBLEM through accelproxy: ${failed.join(", ")}`);
process.exit(failed.length === 0 && Object.keys(counts.accelproxy ?? {}).length === 2 ? 0 : 1);
