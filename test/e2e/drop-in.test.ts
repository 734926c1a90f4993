// Goal: nginx and HAProxy get their first byte one round trip sooner when one line points them at accelproxy.
// Method: the configurations and their changes are read from docs/drop-in.md, so that what people copy is what runs;
// requests of new clients alternate between the proxy before and the proxy after the change.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { median, Peer } from "./peer.ts";
import { World } from "./world.ts";

const RTT_MS = 40;
const COUNT = 15;
/** Scheduling on busy processors, twice. */
const ROOM_MS = 4;
const DOCUMENT = readFileSync(new URL("../../docs/drop-in.md", import.meta.url), "utf8");
const DOCUMENTED_UPSTREAM = "10.0.0.7:8080";
const DOCUMENTED_PORT = 8000;
const REQUEST = "GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
const ORIGIN = `
  const server = require("node:http").createServer((request, response) => response.end("hello from the origin"));
  server.listen(0, "0.0.0.0", () => console.log(server.address().port));
`;

interface Context {
  world: World;
  client: Peer;
  upstream: string;
}

/** The text of a fenced block, by its language and name. */
function block(language: string, name: string): string {
  const found = new RegExp(`^\`\`\`${language} ${name.replace(".", "\\.")}\n(.*?)^\`\`\`$`, "ms").exec(
    DOCUMENT,
  );
  if (found === null) throw new Error(`docs/drop-in.md has no block ${language} ${name}`);
  return found[1]!;
}

/** A configuration of the document before and after its change, which must be one line that is there once. */
function beforeAndAfter(language: string, name: string): [before: string, after: string] {
  const before = block(language, name);
  const change = block("diff", name).trimEnd().split("\n");
  assert.is(change.length, 2, "the change is not one line");
  const [gone, come] = change.map((line) => `${line.slice(1)}\n`);
  assert.ok(change[0]!.startsWith("-") && change[1]!.startsWith("+"));
  assert.is(before.split(gone!).length, 2, "the line to change is not there once");
  return [before, before.replace(gone!, come!)];
}

/** The same configuration for the lab: its upstream, and a port of its own. */
function inLab(text: string, upstream: string, port: number): string {
  return text.replaceAll(DOCUMENTED_UPSTREAM, upstream).replaceAll(`:${DOCUMENTED_PORT}`, `:${port}`);
}

function startNginx({ world }: Context, name: string, site: string): ChildProcess {
  const folder = join(world.folder, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "site.conf"), site);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `${kind}_temp_path ${folder}/${kind};`)
    .join(" ");
  writeFileSync(
    join(folder, "nginx.conf"),
    `daemon off; user root; pid ${folder}/pid; error_log stderr error; worker_processes 1;
     events {} http { access_log off; ${temporary} include ${folder}/site.conf; }`,
  );
  return world.near.spawn("nginx", ["-p", folder, "-e", "stderr", "-c", join(folder, "nginx.conf")]);
}

function startHaproxy({ world }: Context, name: string, text: string): ChildProcess {
  const file = join(world.folder, `${name}.cfg`);
  writeFileSync(file, text);
  return world.near.spawn("haproxy", ["-db", "-q", "-f", file]);
}

/** From connect to the first byte of the answer, for a new client. */
async function firstByteMs(client: Peer, port: number): Promise<number> {
  const connection = await client.connect(port, "127.0.0.1", { text: REQUEST });
  const { atMs } = await connection.saw("data");
  await connection.saw("end");
  const { text } = await connection.report();
  assert.match(text, /^HTTP\/1\.1 200 /);
  assert.match(text, /hello from the origin/);
  await connection.end();
  return atMs - connection.startedMs;
}

/** Resolves once the port answers. */
async function untilUp(client: Peer, port: number): Promise<void> {
  for (let turn = 0; ; turn++) {
    const connection = await client.connect(port, "127.0.0.1");
    const up = await Promise.race([
      connection.saw("connect").then(() => true),
      connection.saw("error").then(() => false),
    ]);
    if (up) return connection.reset();
    if (turn > 100) throw new Error(`nobody listens on ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const dropIn = suite<Context>("drop-in");
dropIn.before(async (context) => {
  context.world = await World.create({ links: [{ between: ["near", "far"], rttMs: RTT_MS }] });
  context.client = await Peer.start(context.world, "near");
  const origin = context.world.far.spawn(process.execPath, ["-e", ORIGIN], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(origin.stdout!, "data")) as [Buffer];
  context.upstream = `${context.world.far.address()}:${line.toString().trim()}`;
  const proxy = await context.world.proxy(inLab(block("yaml", "accelproxy.yaml"), context.upstream, 0));
  await proxy.ready();
});
dropIn.after(async ({ world }) => {
  await world.close();
});

for (const [name, language, file, start, port] of [
  ["nginx", "nginx", "site.conf", startNginx, 8100],
  ["HAProxy", "haproxy", "haproxy.cfg", startHaproxy, 8200],
] as const) {
  dropIn(
    `given ${name} with the documented line changed, then its first byte comes one RTT sooner`,
    async (context) => {
      const { client, upstream } = context;
      const [before, after] = beforeAndAfter(language, file);
      start(context, `${language}-before`, inLab(before, upstream, port));
      start(context, `${language}-after`, inLab(after, upstream, port + 1));
      await untilUp(client, port);
      await untilUp(client, port + 1);
      let gainMs = 0;
      for (let turn = 0; turn < 2 && Math.abs(gainMs - RTT_MS) > ROOM_MS; turn++) {
        const samples: { before: number[]; after: number[] } = { before: [], after: [] };
        for (let index = 0; index < COUNT; index++) {
          samples.before.push(await firstByteMs(client, port));
          samples.after.push(await firstByteMs(client, port + 1));
        }
        const [slow, fast] = [median(samples.before), median(samples.after)];
        gainMs = slow - fast;
        console.log(`  ${name}: ${slow.toFixed(1)} ms before, ${fast.toFixed(1)} ms after`);
      }
      assert.ok(Math.abs(gainMs - RTT_MS) <= ROOM_MS, `${gainMs.toFixed(1)} ms sooner, not ${RTT_MS}`);
    },
  );
}
dropIn.run();
