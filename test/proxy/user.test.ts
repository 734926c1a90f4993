// Goal: `user:` leaves a process that was started as root with two capabilities and nothing else of root, in every
// thread, with the listeners, the admin interface and the eBPF filters that only root could open.
// Method: the command line between real sockets on loopback; what the process is, the kernel says (/proc), and what it
// may not, its own attempt to read a file of root's.
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { makeCertificate } from "../library/origin.ts";
import { fileOf, pathOf, Running, runCommand, UNPRIVILEGED } from "./command.ts";

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
const NET_ADMIN_AND_RAW = "0000000000003000";

const echo = createServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(0, "127.0.0.1");
await once(echo, "listening");
echo.unref();
const bound = echo.address();
const upstream = typeof bound === "object" && bound !== null ? bound.port : 0;

let files = 0;
function configOf(user: string, more = ""): string {
  files += 1;
  return fileOf(
    `user${files}.yaml`,
    `listeners: [{ name: web, bind: "127.0.0.1:0", upstream: o, takeAfter: 1ms }]
upstreams: { o: { servers: [{ address: "127.0.0.1:${upstream}" }] } }
user: ${user}
workers: 2
${more}\n`,
  );
}

/** A line of /proc/PID/task/TID/status for every thread. */
function ofThreads(pid: number, field: string): readonly string[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
    return new RegExp(`^${field}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
  });
}

function ask(socketPath: string, method: string, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method, path, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text) => {
        body += text;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asked.on("error", reject).end();
  });
}

async function echoed(address: unknown): Promise<string> {
  const socket = connect(Number(String(address).split(":").at(-1)), "127.0.0.1");
  socket.end("hello");
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  return text;
}

const user = suite("user");

if (isRoot) {
  user("given root and a user, then every thread has two capabilities and the traffic flows", async () => {
    const admin = pathOf("user.sock");
    const config = configOf("nobody", `admin: { bind: "unix:${admin}" }\nlog: { level: debug }`);
    // The folder and the file are root's alone: what is read of them is read before.
    chmodSync(config, 0o600);
    const proxy = new Running(["--config", config]);
    const { address } = await proxy.logged("listening");
    await proxy.logged("started");
    const pid = proxy.child.pid!;
    for (const field of ["CapEff", "CapPrm", "CapBnd", "CapAmb"]) {
      const sets = ofThreads(pid, field);
      assert.ok(sets.length > 4, `${sets.length} threads`);
      assert.equal([...new Set(sets)], [NET_ADMIN_AND_RAW], field);
    }
    assert.equal([...new Set(ofThreads(pid, "Uid"))], [[NOBODY, NOBODY, NOBODY, NOBODY].join("\t")]);
    assert.equal([...new Set(ofThreads(pid, "Gid"))], [[NOBODY, NOBODY, NOBODY, NOBODY].join("\t")]);
    assert.equal([...new Set(ofThreads(pid, "Groups").map((groups) => groups.trim()))], [String(NOBODY)]);
    assert.equal([...new Set(ofThreads(pid, "NoNewPrivs"))], ["1"]);

    assert.is(await echoed(address), "hello");
    const status = JSON.parse((await ask(admin, "GET", "/status")).body);
    assert.is(status.pools[0].hits, 1, "accelerated");
    const log = JSON.stringify(proxy.log);
    assert.not.match(log, "no eBPF for handshakes", "what root opened is used");

    // The process itself tries to read a file of root's.
    const reloaded = await ask(admin, "POST", "/reload");
    assert.is(reloaded.status, 422);
    assert.match(reloaded.body, "the file may not be read");

    proxy.kill("SIGTERM");
    const { code, stderr } = await proxy.ended;
    assert.equal([code, stderr], [0, ""]);
  });

  user(
    "given a file and a folder that the user may read, then a reload works and the socket goes",
    async () => {
      const config = configOf("nobody");
      const folder = fileOf("empty", "").replace(/empty$/, "");
      chmodSync(folder, 0o755);
      const admin = `${folder}reload-user.sock`;
      writeFileSync(config, `${readFileSync(config, "utf8")}admin: { bind: "unix:${admin}" }\n`);
      chownSync(folder, NOBODY, NOBODY);
      const proxy = new Running(["--config", config]);
      await proxy.logged("started");
      writeFileSync(config, readFileSync(config, "utf8").replace("name: web", "name: other"));
      assert.is((await ask(admin, "POST", "/reload")).body, '{"ok":true}\n');
      const { address } = await proxy.logged("listening", 2);
      assert.is(await echoed(address), "hello");
      const drained = await ask(admin, "POST", "/drain");
      assert.is(drained.status, 200);
      assert.is((await proxy.ended).code, 0);
      assert.not(existsSync(admin));
    },
  );

  user("given a key that is root's alone, then TLS is spoken with it, and a reload is refused", async () => {
    const { cert, key } = makeCertificate(["a.test"]);
    // A comma separates what is passed.
    const keyFile = fileOf("a,b.key", key);
    chmodSync(keyFile, 0o600);
    const tls = `tls: [{ cert: ${fileOf("a.pem", cert)}, key: "a,b.key" }]`;
    const config = fileOf(
      "user-tls.yaml",
      `listeners: [{ name: web, bind: "127.0.0.1:0", mode: http, upstream: o, ${tls} }]
upstreams: { o: { servers: [{ address: "127.0.0.1:${upstream}" }] } }
httpWorkers: 2
user: nobody\n`,
    );
    chmodSync(pathOf(""), 0o755);
    const proxy = new Running(["--config", config]);
    const { address } = await proxy.logged("listening");
    await proxy.logged("started");
    assert.equal([...new Set(ofThreads(proxy.child.pid!, "CapEff"))], [NET_ADMIN_AND_RAW]);
    for (const fd of readdirSync(`/proc/${proxy.child.pid}/fd`)) {
      assert.not.match(readlinkSync(`/proc/${proxy.child.pid}/fd/${fd}`), keyFile, "it is closed");
    }
    const port = Number(String(address).split(":").at(-1));
    const client = connectTls({ port, host: "127.0.0.1", servername: "a.test", ca: cert });
    await once(client, "secureConnect");
    client.destroy();
    proxy.kill("SIGHUP");
    const { problems } = await proxy.logged("configuration not reloaded, the old one stays");
    assert.match(String(problems), "a,b.key: this user may not read it");
    proxy.kill("SIGTERM");
    assert.is((await proxy.ended).code, 0);
  });

  user("given acceleration: off, then no capability is kept", async () => {
    const proxy = new Running(["--config", configOf("nobody", "acceleration: off")]);
    await proxy.logged("started");
    assert.equal([...new Set(ofThreads(proxy.child.pid!, "CapPrm"))], ["0000000000000000"]);
    proxy.kill("SIGTERM");
    assert.is((await proxy.ended).code, 0);
  });

  user("given an upgrade afterwards, then the new process is the user too", async () => {
    const admin = pathOf("upgraded.sock");
    const proxy = new Running(["--config", configOf("nobody", `admin: { bind: "unix:${admin}" }`)]);
    await proxy.logged("started");
    proxy.kill("SIGUSR2");
    const { pid } = await proxy.logged("upgraded: a new process has everything");
    assert.is((await ask(admin, "GET", "/healthz")).status, 200);
    assert.equal([...new Set(ofThreads(Number(pid), "CapEff"))], [NET_ADMIN_AND_RAW]);
    process.kill(Number(pid), "SIGTERM");
    await proxy.ended;
  });

  for (const [given, prefix, name, more, code, said] of [
    [
      "a user nobody knows",
      [],
      "no-such-user",
      "",
      1,
      /user: no-such-user is no user of this host \(useradd/,
    ],
    ["an ordinary user that is another", UNPRIVILEGED, "daemon", "", 77, /only root can run as daemon/],
    [
      "a user namespace without the user",
      ["unshare", "-rn"],
      "nobody",
      "",
      77,
      /cannot become nobody: EINVAL/,
    ],
  ] as const) {
    user(`given ${given}, then exit ${code} with the remedy`, async () => {
      const config = configOf(name, more);
      chmodSync(pathOf(""), 0o755);
      const { code: got, stderr } = await runCommand(["--config", config], prefix);
      assert.match(stderr, said);
      assert.is(got, code);
    });
  }

  user("given the user himself with both capabilities ambient, then it starts as it is", async () => {
    const prefix = [...UNPRIVILEGED, "--inh-caps=+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw"];
    chmodSync(pathOf(""), 0o755);
    const proxy = new Running(["--config", configOf("nobody")], prefix);
    const { address } = await proxy.logged("listening");
    assert.is(await echoed(address), "hello");
    assert.equal([...new Set(ofThreads(proxy.child.pid!, "CapEff"))], [NET_ADMIN_AND_RAW]);
    proxy.kill("SIGTERM");
    assert.is((await proxy.ended).code, 0);
  });
} else {
  user("given an ordinary user, then only root can become another", async () => {
    const { code, stderr } = await runCommand(["--config", configOf("root")]);
    assert.match(stderr, /only root can run as root/);
    assert.is(code, 77);
  });
}
user.run();
