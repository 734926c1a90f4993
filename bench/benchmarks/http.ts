/**
 * What a request costs an HTTP proxy on loopback: fresh clients, one request each, with a connection to the origin for each
 * request and with kept ones. Load, counting and CPU are those of rate.ts.
 */
import type { Benchmark } from "../context.ts";
import { accelproxy } from "../peers/accelproxy.ts";
import { haproxyNever, haproxyReuse } from "../peers/haproxy.ts";
import { nginxHttp } from "../peers/nginx.ts";
import { findProgram } from "../peers/peer.ts";
import { startLoopback } from "./loopback.ts";
import { assertWorking, atConcurrency, DIRECT, type Subject } from "./rate.ts";

const POOL = { max: 2048, maxSynRate: 100_000 };
const NEVER = accelproxy({
  name: "accelproxy http, reuse never",
  acceleration: "required",
  reuse: "never",
  pool: POOL,
});
const REUSE = accelproxy({ name: "accelproxy http, reuse", acceleration: "required", reuse: "5s" });
const PEERS = [NEVER, REUSE, haproxyNever, haproxyReuse, nginxHttp];
const BASELINE = haproxyNever.name;
const CLIENTS = 16;
const BODY_BYTES = 100;

export const http: Benchmark = {
  name: "http",
  async run(context) {
    if (findProgram("ab") === undefined) {
      context.skip("http", "ab (apache2-utils) is not installed");
      return [];
    }
    const { lab, host, origin, peers } = await startLoopback(context, PEERS, [BODY_BYTES]);
    const subjects: Subject[] = [
      { name: DIRECT, port: origin.port, pid: undefined },
      ...peers.map(({ name, port, pid }) => ({ name, port, pid })),
    ];
    for (const { name, port } of subjects) await assertWorking(host, name, port);
    context.say(`http: ${CLIENTS} clients`);
    const rows = await atConcurrency(context, host, subjects, CLIENTS, BASELINE);
    await context.closeLab(lab);
    return rows;
  },
};
