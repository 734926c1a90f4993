import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { parseConfig } from "../../config/load.ts";
import { fakeStatus } from "./admin/fake-proxy.ts";
import { COMMAND, fileOf, pathOf, Running, runCommand, UNPRIVILEGED } from "./command.ts";

/**
 * Goal: exit codes, stdout and stderr of the commands that end by themselves.
 * Method: the built command line; unprivileged ones by setpriv, which needs root.
 */

const isRoot = process.getuid?.() === 0;
const good = fileOf(
  "good.yaml",
  "listeners: [{ name: web, bind: '127.0.0.1:0', upstream: origin }]\nupstreams: { origin: { servers: [{ address: '127.0.0.1:9' }] } }\n",
);
const bad = fileOf(
  "bad.yaml",
  "listeners:\n  - name: web\n    bind: nowhere\n    upsteam: origin\nupstreams: {}\n",
);
// The unprivileged user has to reach the files.
chmodSync(dirname(good), 0o755);

const oneLine = /^accelproxy: [^\n]+\n$/;

const usage = suite("cli: usage");
for (const args of [[], ["--bogus"], ["chek"], ["checkpoint"], ["--config", good, "--restore"]]) {
  usage(`given ${args.slice(-2).join(" ") || "nothing"}, then one line on stderr and exit 2`, async () => {
    const { code, stdout, stderr } = await runCommand(args);
    assert.is(code, 2);
    assert.is(stdout, "");
    assert.match(stderr, oneLine);
  });
}

usage("given --help, then the commands on stdout and exit 0", async () => {
  const { code, stdout, stderr } = await runCommand(["--help"]);
  assert.is(code, 0);
  for (const word of ["--config FILE", "check", "doctor", "status", "probe HOST:PORT", "--version"])
    assert.match(stdout, word);
  assert.is(stderr, "");
});

usage("given --version, then that of package.json", async () => {
  const { code, stdout } = await runCommand(["--version"]);
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  assert.is(stdout, `${JSON.parse(text).version}\n`);
  assert.is(code, 0);
});
usage.run();

const check = suite("cli: check");
check("given a good file, then the effective configuration, which reads back the same", async () => {
  const { code, stdout, stderr } = await runCommand(["check", "--config", good]);
  assert.is(code, 0);
  assert.is(stderr, "");
  const parsed = parseConfig(stdout, "stdout");
  assert.ok(parsed.ok);
  assert.match(stdout, /drainTimeout: 30s/);
});

for (const [given, args] of [
  ["check", ["check", "--config", bad]],
  ["a run", ["--config", bad]],
] as const) {
  check(`given a bad file and ${given}, then every problem with its place and exit 2`, async () => {
    const { code, stdout, stderr } = await runCommand(args);
    assert.is(code, 2);
    assert.is(stdout, "");
    const lines = stderr.trimEnd().split("\n");
    assert.ok(lines.length >= 3, stderr);
    for (const line of lines) {
      assert.ok(line.startsWith(`${bad}:`), line);
      assert.match(line.slice(bad.length), /^:\d+:\d+: .+ \(.+\)$/);
    }
  });
}

check("given no file, then 1:1 and exit 2", async () => {
  const { code, stderr } = await runCommand(["check", "--config", "/nowhere/x.yaml"]);
  assert.is(code, 2);
  assert.match(stderr, /^\/nowhere\/x\.yaml:1:1: the file does not exist \(.+\)\n$/);
});
check.run();

interface DoctorJson {
  readonly ok: boolean;
  readonly checks: readonly { name: string; ok: boolean; required: boolean; found: string; remedy: string }[];
}

const doctor = suite("cli: doctor");
const NAMES = [
  "kernel",
  "CAP_NET_RAW",
  "CAP_NET_ADMIN",
  "socket-filter",
  "tcp-repair",
  "io_uring",
  "bpf",
  "tcp_timestamps",
  "ip_local_port_range",
  "open-files",
  "memlock",
  "ipv6",
  "nf_conntrack",
  "rp_filter",
  "guard",
  "interception",
];

function readChecks(stdout: string): DoctorJson {
  const result: DoctorJson = JSON.parse(stdout);
  assert.equal(
    result.checks.map(({ name }) => name),
    NAMES,
  );
  for (const { name, found, remedy, ...rest } of result.checks) {
    assert.ok(found !== "" && remedy !== "", name);
    assert.type(rest.ok, "boolean");
    assert.type(rest.required, "boolean");
  }
  assert.is(
    result.ok,
    result.checks.every(({ ok, required }) => ok || !required),
  );
  return result;
}

if (isRoot) {
  doctor("given root, then every required check is ok and exit 0", async () => {
    const { code, stdout, stderr } = await runCommand(["doctor", "--json"]);
    const { ok, checks } = readChecks(stdout);
    assert.ok(ok, stdout);
    assert.is(checks.find(({ name }) => name === "bpf")?.ok, true);
    assert.is(code, 0);
    assert.is(stderr, "");
  });

  doctor("given an unprivileged user, then both capabilities with their remedy and exit 1", async () => {
    const { code, stdout } = await runCommand(["doctor", "--json"], UNPRIVILEGED);
    const { ok, checks } = readChecks(stdout);
    assert.not(ok);
    const bpf = checks.find(({ name }) => name === "bpf");
    assert.is(bpf?.ok, false);
    assert.match(bpf?.found ?? "", /EPERM; a raw socket is used instead/);
    assert.is(code, 1);
    const failed = checks.filter((one) => one.required && !one.ok).map(({ name }) => name);
    // Whether a filter on a TCP socket needs CAP_NET_ADMIN depends on the kernel.
    assert.equal(
      failed.filter((name) => name !== "socket-filter"),
      ["CAP_NET_RAW", "CAP_NET_ADMIN", "tcp-repair"],
    );
    for (const { found, remedy } of checks.filter(({ name }) => name.startsWith("CAP_"))) {
      assert.match(found, /EPERM, not in the effective set/);
      assert.match(remedy, /setcap cap_net_admin,cap_net_raw\+ep/);
    }
  });

  doctor("given capabilities that do not count here, then it says so", async () => {
    // A user namespace of its own, but the network namespace of the parent.
    const { code, stdout } = await runCommand(["doctor", "--json"], ["unshare", "--user", "--map-root-user"]);
    const { checks } = readChecks(stdout);
    assert.is(code, 1);
    assert.match(checks[1]!.found, /though in the effective set/);
    assert.match(checks[1]!.remedy, /network namespace/);
  });

  doctor("given a fresh network namespace, then the loopback that is down is named", async () => {
    const { code, stdout } = await runCommand(["doctor", "--json"], ["unshare", "--net"]);
    const { checks } = readChecks(stdout);
    assert.is(code, 1);
    const failed = checks.filter((one) => one.required && !one.ok);
    assert.equal(
      failed.map(({ name }) => name),
      ["tcp-repair"],
    );
    assert.match(failed[0]!.remedy, /ip link set lo up/);
  });
} else {
  doctor("given this user, then the checks and a code that agrees", async () => {
    const { code, stdout } = await runCommand(["doctor", "--json"]);
    assert.is(code, readChecks(stdout).ok ? 0 : 1);
  });
}

doctor("given no --json, then a line a check and a verdict", async () => {
  const { stdout } = await runCommand(["doctor"]);
  for (const name of NAMES) assert.match(stdout, new RegExp(`^(ok  |warn|FAIL)  ${name} `, "m"));
  assert.match(stdout, /\naccelproxy can(not)? accelerate here[^\n]*\n$/);
});
doctor.run();

const status = suite("cli: status");
status("given no socket, then one line and exit 1", async () => {
  const { code, stdout, stderr } = await runCommand(["status", "--admin", `unix:${pathOf("none.sock")}`]);
  assert.is(code, 1);
  assert.is(stdout, "");
  assert.match(stderr, oneLine);
  assert.match(stderr, /there is no such socket/);
});

async function withAnswer(
  code: number,
  body: string,
  run: (address: string) => Promise<void>,
): Promise<void> {
  const server = createServer((request, response) => {
    assert.is(request.headers.host, "localhost");
    response.writeHead(request.url === "/status" ? code : 404).end(body);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const bound = server.address();
  if (typeof bound !== "object" || bound === null) throw new Error("no port");
  try {
    await run(`127.0.0.1:${bound.port}`);
  } finally {
    server.close();
  }
}

status("given nobody at the port, then one line and exit 1", async () => {
  let address = "";
  await withAnswer(200, "", async (used) => {
    address = used;
  });
  const { code, stderr } = await runCommand(["status", "--admin", address]);
  assert.is(code, 1);
  assert.match(stderr, oneLine);
  assert.match(stderr, /nothing listens there/);
});

for (const [given, code, body, want] of [
  ["another program", 200, "<html>", /answers something else/],
  ["other JSON", 200, "{}", /answers something else/],
  ["an error", 503, "{}", /answers 503/],
] as const) {
  status(`given ${given}, then one line and exit 1`, () =>
    withAnswer(code, body, async (address) => {
      const ending = await runCommand(["status", "--admin", address]);
      assert.is(ending.code, 1);
      assert.match(ending.stderr, oneLine);
      assert.match(ending.stderr, want);
    }),
  );
}

status("given --json, then GET /status", () =>
  withAnswer(200, `${JSON.stringify(fakeStatus)}\n`, async (address) => {
    const { code, stdout } = await runCommand(["status", "--json", "--admin", address]);
    assert.is(code, 0);
    assert.equal(JSON.parse(stdout), fakeStatus);
  }),
);

status("given a name for the host, then tables", () =>
  withAnswer(200, JSON.stringify(fakeStatus), async (address) => {
    const { code, stdout } = await runCommand([
      "status",
      "--admin",
      address.replace("127.0.0.1", "localhost"),
    ]);
    assert.is(code, 0);
    assert.is(
      stdout,
      `accelproxy 1.2.3, up 1d 2h, 2 workers on io_uring
989 round trips saved, 39.6 s of waiting
first byte, median about: accelerated 25 ms, ordinary 78 ms

LISTENER  ADDRESS         MODE  ACTIVE  TOTAL
api       127.0.0.1:8001  tcp        3   1234

UPSTREAM  BALANCE      QUEUED  REFUSED
origin    round-robin       2        5

UPSTREAM  SERVER         WEIGHT  ACTIVE  MAX  FAILURES  EJECTIONS  STATE
origin    10.0.0.7:8080       3       7    9        11          1  ejected

UPSTREAM  SERVER         READY      RTT  HITS  MISSES  HIT RATE  REPLAYS  TAINTED  VANISHED  REFUSED  STATE
origin    10.0.0.7:8080    4/6  40.0 ms   990      10    99.0 %        1        2         3        4  cookies

RECENTLY
2026-09-21 14:13:20  warning  origin at 10.0.0.7:8080 rests (2 times)
2026-09-21 14:13:10  info     Started
`,
    );
  }),
);

status("given --watch, then again every second until Ctrl-C, exit 0", () =>
  withAnswer(200, JSON.stringify(fakeStatus), async (address) => {
    const watching = new Running(["status", "--watch", "--admin", address]);
    const count = () => watching.stdout.match(/LISTENER/g)?.length ?? 0;
    for (let n = 0; n < 100 && count() < 3; n++) await new Promise((resolve) => setTimeout(resolve, 50));
    assert.ok(count() >= 3);
    watching.kill("SIGINT");
    const { code, stderr } = await watching.ended;
    assert.is(code, 0);
    assert.is(stderr, "");
  }),
);

status("given a reader that goes away, then no error", async () => {
  const command = `"${COMMAND.join('" "')}" check --config "${good}" | true; echo "\${PIPESTATUS[0]}"`;
  const { stdout, stderr } = spawnSync("bash", ["-c", command], { encoding: "utf8" });
  assert.is(stdout, "0\n");
  assert.is(stderr, "");
});
status.run();
