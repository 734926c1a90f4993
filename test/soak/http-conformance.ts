/**
 * What accelproxy, HAProxy and nginx do with the malformed requests of the tests: each gets the same bytes, and behind it
 * is an origin that takes nothing that is not canonical. Writes docs/results/http-conformance.md. Exit 1 when accelproxy did
 * something else than the cases say.
 *
 *   npm run soak -- http-conformance
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findProgram } from "../../bench/peers/peer.ts";
import { HttpProxy } from "../proxy/http/http-proxy.ts";
import { MALFORMED_CASES, type MalformedCase } from "../proxy/http/malformed-cases.ts";
import { statusesOf } from "../proxy/http/raw-client.ts";
import { StrictOrigin } from "../proxy/http/strict-origin.ts";

interface Subject {
  readonly name: string;
  readonly version: string;
  readonly port: number;
  stop(): Promise<unknown>;
}

/** After these an answer that has not come does not come. */
const LIMIT_MS = 1_500;
const folder = mkdtempSync(join(tmpdir(), "accelproxy-conformance-"));
const origin = await StrictOrigin.start();
const server = `127.0.0.1:${origin.port}`;

/** A program with this configuration, listening. Undefined when it is not installed. */
async function start(
  name: string,
  config: (port: number) => string,
  args: (file: string) => readonly string[],
  port: number,
): Promise<Subject | undefined> {
  const program = findProgram(name);
  if (program === undefined) return undefined;
  const file = join(folder, `${name}.conf`);
  writeFileSync(file, config(port));
  const child: ChildProcess = spawn(program, args(file), { stdio: ["ignore", "ignore", "inherit"] });
  while (!(await listens(port))) await sleep(50);
  const { stdout, stderr } = spawnSync(program, ["-v"], { encoding: "utf8" });
  const version = /(?:version |nginx\/)([\d.]+)/.exec(stdout + stderr)?.[1] ?? "?";
  return { name, version, port, stop: async () => child.kill("SIGKILL") };
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}

const haproxy = (port: number): string => `
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
listen web
  bind 127.0.0.1:${port}
  server origin ${server}
`;
const nginx = (port: number): string => `
daemon off;
pid ${folder}/nginx.pid;
error_log /dev/null;
events {}
http {
  access_log off;
  client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi; scgi_temp_path ${folder}/scgi;
  server {
    listen 127.0.0.1:${port};
    location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 1s; proxy_pass http://${server}; }
  }
}
`;

/** What came of it, in a few words. */
async function outcome({ port }: Subject, given: MalformedCase): Promise<string> {
  const { bytes, statuses, closes = false } = given;
  const count = Math.max(1, statuses.length);
  const got = await statusesOf(port, bytes, { count, closes, limitMs: LIMIT_MS });
  await sleep(closes ? 50 : 5);
  const { requests, problems } = origin.take();
  const answers = got.length === 0 ? "–" : got.join(", ");
  if (problems.length > 0)
    return `${answers}, **upstream: ${problems[0]!.replaceAll("|", "\\|").slice(0, 60)}**`;
  if (requests.some(({ target }) => target === "/smuggled")) return `${answers}, **smuggled**`;
  const isOther = requests.length > 0 && given.sees !== undefined && !given.sees(requests[0]!);
  if (isOther) return `${answers}, passed on in another way`;
  return requests.length > 0 && statuses[0] !== 200 ? `${answers}, passed on` : answers;
}

const proxy = await HttpProxy.start(`
listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o }]
upstreams: { o: { servers: [{ address: "${server}" }], reuse: 5s } }`);
const subjects: Subject[] = [
  { name: "accelproxy", version: "", port: proxy.port("web"), stop: () => proxy.stop() },
];
for (const other of [
  await start("haproxy", haproxy, (file) => ["-db", "-f", file], 18_731),
  await start("nginx", nginx, (file) => ["-p", folder, "-c", file], 18_732),
]) {
  if (other !== undefined) subjects.push(other);
}
origin.take();

const rows: string[] = [];
const problems: string[] = [];
for (const given of MALFORMED_CASES) {
  const outcomes: string[] = [];
  for (const subject of subjects) outcomes.push(await outcome(subject, given));
  const want = given.statuses.length === 0 ? "–" : given.statuses.join(", ");
  if (outcomes[0] !== want) problems.push(`${given.name}: ${outcomes[0]}, not ${want}`);
  rows.push(`| ${given.name} | ${outcomes.join(" | ")} |`);
}
for (const { stop } of subjects) await stop();
origin.close();
rmSync(folder, { recursive: true, force: true });

const names = subjects.map(({ name, version }) => `${name} ${version}`.trim());
const page = `# Malformed requests

${MALFORMED_CASES.length} requests that parsers are known to disagree on, as bytes to each proxy, in their default settings, and
behind it an origin that takes nothing that is not canonical: the statuses of the answers, "–" for none, "passed on" where
accelproxy refuses and the other does not, and in bold what could be read in two ways upstream. Made by
\`npm run soak -- http-conformance\`; the bytes are in test/proxy/http/malformed-cases.ts.

| request | ${names.join(" | ")} |
|---|${names.map(() => "---|").join("")}
${rows.join("\n")}
`;
writeFileSync(new URL("../../docs/results/http-conformance.md", import.meta.url), page);
for (const problem of problems) console.log(`PROBLEM ${problem}`);
console.log(`${MALFORMED_CASES.length} cases, ${problems.length} problems; docs/results/http-conformance.md`);
process.exit(problems.length === 0 ? 0 : 1);
