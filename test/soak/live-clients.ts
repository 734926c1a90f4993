/**
 * Programs that know nothing of us are in the middle of their work while the proxy is put away, restored, and upgraded by
 * SIGUSR2: curl downloads slowly from nginx, iperf3 sends and receives. Exit 1 when the download is not the file, or one of
 * them fails.
 *
 *   npm run soak -- live-clients
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as assert from "uvu/assert";
import { checkpoint, restore, ruleset } from "../e2e/checkpoint-cases.ts";
import { World } from "../e2e/world.ts";

// curl reads so slowly that much of the file waits in buffers behind the proxy, but not all of it.
const FILE_BYTES = 120_000_000;
const RATE = "5000k";
const IPERF_S = 25;
/** curl's, iperf3's control connection, and one for each direction. */
const SESSIONS = 4;
const BITS_PER_SECOND = "20M";
const BETWEEN_MS = 2_500;
const HTTP_PORT = 8_080;
const IPERF_PORT = 5_201;
const AWAY_MS = 500;
const POLL_MS = 50;

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function startServers(world: World): Promise<Uint8Array> {
  const folder = join(world.folder, "nginx");
  await mkdir(folder, { mode: 0o755 });
  const file = randomBytes(FILE_BYTES);
  await writeFile(join(folder, "file"), file);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${folder}/${kind};`)
    .join(" ");
  await writeFile(
    join(folder, "nginx.conf"),
    `daemon off; user root; pid ${folder}/pid; worker_processes 1; events {}
     http { access_log off; ${temporary} server { listen ${HTTP_PORT}; root ${folder}; } }`,
  );
  world.far.spawn("nginx", ["-p", folder, "-e", "stderr", "-c", join(folder, "nginx.conf")]);
  world.far.spawn("iperf3", ["--server", "--port", String(IPERF_PORT)], { stdio: "ignore" });
  const listening = new RegExp(`:${IPERF_PORT} .*:${HTTP_PORT} |:${HTTP_PORT} .*:${IPERF_PORT} `, "s");
  while (!listening.test((await world.far.run("ss", ["-ltn"])).stdout)) await sleep(POLL_MS);
  return file;
}

await using world = await World.create({ links: [{ between: ["near", "far"], rttMs: 2 }] });
const file = await startServers(world);
const dir = join(world.folder, "images");
await mkdir(dir, { mode: 0o700 });
const config = `
listeners:
  - { name: http, bind: "127.0.0.1:8001", upstream: nginx }
  - { name: iperf, bind: "127.0.0.1:8002", upstream: iperf }
upstreams:
  nginx: { servers: [{ address: "10.77.0.2:${HTTP_PORT}" }] }
  iperf: { servers: [{ address: "10.77.0.2:${IPERF_PORT}" }] }
`;
let proxy = await world.proxy(config);
const active = async (): Promise<number> =>
  (await proxy.status()).listeners.reduce((sum, listener) => sum + listener.active, 0);
const untilAll = (): Promise<unknown> =>
  proxy.until("all sessions", async () => (await active()) === SESSIONS);
await proxy.ready();
const target = join(world.folder, "downloaded");
const download = world.near.run("curl", [
  ...["--silent", "--show-error", "--fail", "--limit-rate", RATE],
  ...["--output", target, "http://127.0.0.1:8001/file"],
]);
const transfer = world.near.run("iperf3", [
  ...["--client", "127.0.0.1", "--port", "8002", "--time", String(IPERF_S)],
  ...["--bitrate", BITS_PER_SECOND, "--bidir", "--json"],
]);
await sleep(BETWEEN_MS);
await untilAll();

const put = await checkpoint(world, proxy, dir);
assert.is(put.code, 0, put.stderr);
assert.is(await proxy.ended(), 0);
await sleep(AWAY_MS); // nobody answers
proxy = await restore({ world, config, dir });
assert.is(await ruleset(world), "");
console.log(`checkpoint and restore: ${put.stdout.trim()}`);
await sleep(BETWEEN_MS);
await untilAll();

const { sessions, pauseMs } = await proxy.upgrade();
assert.is(sessions, SESSIONS);
console.log(`SIGUSR2: ${sessions} sessions, pause ${pauseMs} ms`);

const [curl, iperf] = await Promise.all([download, transfer]);
assert.is(curl.code, 0, curl.stderr);
assert.is(sha256(await readFile(target)), sha256(file), "the download is not the file");
assert.is(iperf.code, 0, `${iperf.stderr}${iperf.stdout.slice(-1_000)}`);
const { end } = JSON.parse(iperf.stdout) as {
  end: { sum_received: { bytes: number }; sum_received_bidir_reverse: { bytes: number } };
};
assert.ok(end.sum_received.bytes > 0 && end.sum_received_bidir_reverse.bytes > 0, "iperf3 moved nothing");
console.log(
  `curl: ${FILE_BYTES} bytes, SHA-256 equal; iperf3: exit 0, ${end.sum_received.bytes} bytes up, ${end.sum_received_bidir_reverse.bytes} down`,
);
await proxy.stop();
