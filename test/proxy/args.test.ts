import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Command, parseCommandLine } from "../../proxy/args.ts";
import { COUNT_DEFAULT, COUNT_MAX } from "../../proxy/probe/limits.ts";

/**
 * Goal: every right command line is understood, every wrong one gets one line that names the fault and a remedy.
 * Method: tables of command lines.
 */

const right = suite("args: right usage");
const socket = { kind: "unix", path: "/run/accelproxy.sock" } as const;
const rightUsages: readonly (readonly [args: readonly string[], want: Command])[] = [
  [["--help"], { kind: "help" }],
  [["check", "--help"], { kind: "help" }],
  [["--config", "x", "--help"], { kind: "help" }],
  [["--version"], { kind: "version" }],
  [["--config", "a.yaml"], { kind: "run", configFile: "a.yaml", restore: undefined, receive: undefined }],
  [["--config=a.yaml"], { kind: "run", configFile: "a.yaml", restore: undefined, receive: undefined }],
  [["--config=-a.yaml"], { kind: "run", configFile: "-a.yaml", restore: undefined, receive: undefined }],
  [["--config", "a", "--restore", "d"], { kind: "run", configFile: "a", restore: "d", receive: undefined }],
  [["checkpoint", "--dir", "d"], { kind: "checkpoint", goal: { dir: "d" }, admin: socket }],
  [
    ["checkpoint", "--admin", "unix:/tmp/a.sock", "--dir=/d"],
    { kind: "checkpoint", goal: { dir: "/d" }, admin: { kind: "unix", path: "/tmp/a.sock" } },
  ],
  [
    ["checkpoint", "--to", "h:1"],
    { kind: "checkpoint", goal: { to: { host: "h", port: 1, keys: "/etc/accelproxy/keys" } }, admin: socket },
  ],
  [
    ["--config", "a", "--receive", "[::1]:7", "--keys=k"],
    { kind: "run", configFile: "a", restore: undefined, receive: { host: "::1", port: 7, keys: "k" } },
  ],
  [["check", "--config", "a b.yaml"], { kind: "check", configFile: "a b.yaml" }],
  [["--config", "a.yaml", "check"], { kind: "check", configFile: "a.yaml" }],
  [["doctor"], { kind: "doctor", json: false }],
  [["images", "d"], { kind: "images", dir: "d", json: false }],
  [["images", "--json", "/a/b"], { kind: "images", dir: "/a/b", json: true }],
  [["keys", "d"], { kind: "keys", dir: "d" }],
  [["doctor", "--json"], { kind: "doctor", json: true }],
  [["status"], { kind: "status", admin: socket, json: false, watch: false }],
  [["status", "--json", "--watch"], { kind: "status", admin: socket, json: true, watch: true }],
  [
    ["status", "--admin", "unix:/tmp/a.sock"],
    { kind: "status", admin: { kind: "unix", path: "/tmp/a.sock" }, json: false, watch: false },
  ],
  [
    ["status", "--admin=127.0.0.1:9901"],
    { kind: "status", admin: { kind: "tcp", host: "127.0.0.1", port: 9901 }, json: false, watch: false },
  ],
  [
    ["status", "--admin", "[::1]:9901"],
    { kind: "status", admin: { kind: "tcp", host: "::1", port: 9901 }, json: false, watch: false },
  ],
  [
    ["status", "--admin", "localhost:9901"],
    { kind: "status", admin: { kind: "tcp", host: "localhost", port: 9901 }, json: false, watch: false },
  ],
  [
    ["probe", "10.0.0.7:8080"],
    {
      kind: "probe",
      target: { host: "10.0.0.7", port: 8080 },
      count: COUNT_DEFAULT,
      lifetime: false,
      json: false,
    },
  ],
  [
    ["probe", "--json", "--lifetime", "--count=3", "[2001:DB8::7]:80"],
    { kind: "probe", target: { host: "2001:db8::7", port: 80 }, count: 3, lifetime: true, json: true },
  ],
  [
    ["probe", "--count", String(COUNT_MAX), "origin.example:443"],
    {
      kind: "probe",
      target: { host: "origin.example", port: 443 },
      count: COUNT_MAX,
      lifetime: false,
      json: false,
    },
  ],
];
for (const [args, want] of rightUsages) {
  right(`given ${args.join(" ")}, then ${want.kind}`, () => {
    assert.equal(parseCommandLine(args), { ok: true, command: want });
  });
}
right.run();

const wrong = suite("args: wrong usage");
const wrongUsages: readonly (readonly [args: readonly string[], want: RegExp])[] = [
  [[], /--config is missing \(write accelproxy --config FILE/],
  [[""], /the command is empty/],
  [["check"], /--config is missing \(write accelproxy check --config FILE\)/],
  [["--config"], /--config needs a value/],
  [["--config", ""], /--config needs a value/],
  [["--config="], /--config needs a value/],
  [["--config", "--json"], /--config needs a value before "--json"/],
  [["--config", "a\0b"], /NUL/],
  [["--config", "a", "--config", "b"], /--config is given twice/],
  [["--config", "a", "b"], /unknown command "b"/],
  [["check", "--config", "a", "b"], /accelproxy check takes no "b"/],
  [["check", "doctor"], /takes no "doctor"/],
  [["chek", "--config", "a"], /unknown command "chek" \(did you mean check\?\)/],
  [["Status"], /did you mean status\?/],
  [["run", "--config", "a"], /unknown command "run"/],
  [["help"], /unknown command "help" \(see accelproxy --help\)/],
  [["__proto__"], /unknown command/],
  [["constructor"], /unknown command/],
  [["--confg", "a"], /unknown option "--confg" \(did you mean --config\?\)/],
  [["--constructor"], /unknown option "--constructor"/],
  [["-c", "a"], /unknown option "-c"/],
  [["-h"], /unknown option "-h"/],
  [["--no-json"], /unknown option "--no-json"/],
  [["--help", "--bogus"], /unknown option "--bogus"/],
  [["--help=yes"], /--help takes no value/],
  [["--json"], /accelproxy takes no --json/],
  [["--watch", "--config", "a"], /accelproxy takes no --watch/],
  [["check", "--json", "--config", "a"], /accelproxy check takes no --json/],
  [["doctor", "--config", "a"], /accelproxy doctor takes no --config/],
  [["doctor", "--json", "--json"], /--json is given twice/],
  [["doctor", "--json=1"], /--json takes no value/],
  [["doctor", "now"], /accelproxy doctor takes no "now"/],
  [["status", "--version"], /accelproxy status takes no --version/],
  [["status", "--admin"], /--admin needs a value \(write --admin ADDRESS\)/],
  [["status", "--admin", "nowhere"], /--admin: .*has no port/],
  [["status", "--admin", "127.0.0.1:0"], /--admin: .*port 0/],
  [["status", "--admin", "127.0.0.1:65536"], /--admin: .*65536/],
  [["status", "--admin", "::1:9901"], /--admin: /],
  [["status", "--admin", "unix:run.sock"], /--admin: .*no absolute path/],
  [["status", "--admin", "/run/a.sock"], /--admin: .*write unix:\/run\/a.sock/],
  [["status", "--admin", "http://127.0.0.1:9901"], /--admin: .*is a URL/],
  [["probe"], /HOST:PORT is missing \(write accelproxy probe HOST:PORT\)/],
  [["probe", "10.0.0.7"], /probe: .*has no port/],
  [["probe", "http://10.0.0.7/"], /probe: .*is a URL/],
  [["probe", "10.0.0.7:80", "10.0.0.8:80"], /accelproxy probe takes no "10\.0\.0\.8:80"/],
  [["probe", "10.0.0.7:80", "--count", "0"], /--count: "0" is no number of connections/],
  [["probe", "10.0.0.7:80", "--count", "1001"], /--count: "1001" .*write 1 to 1000/],
  [["probe", "10.0.0.7:80", "--count", "1e2"], /--count: "1e2"/],
  [["probe", "10.0.0.7:80", "--count"], /--count needs a value \(write --count N\)/],
  [["probe", "10.0.0.7:80", "--watch"], /accelproxy probe takes no --watch/],
  [["doctor", "--lifetime"], /accelproxy doctor takes no --lifetime/],
  [["checkpoint"], /--dir is missing .write accelproxy checkpoint --dir DIR/],
  [["checkpoint", "--to", "h"], /--to: /],
  [["checkpoint", "--to", "h:1", "--dir", "d"], /exclude each other/],
  [["checkpoint", "--dir", "d", "--keys", "k"], /--keys is for --to/],
  [["--config", "a", "--restore", "d", "--receive", "h:1"], /exclude each other/],
  [["--config", "a", "--keys", "k"], /--keys is for --receive/],
  [["images"], /DIR is missing \(write accelproxy images DIR\)/],
  [["images", ""], /DIR is missing/],
  [["images", "a", "b"], /accelproxy images takes no "b"/],
  [["keys"], /DIR is missing \(write accelproxy keys DIR\)/],
  [["keys", "d", "--json"], /accelproxy keys takes no --json/],
  [["intercept", "--print"], /--config is missing/],
  [["intercept", "--config", "a"], /intercept needs one of --print, --apply and --remove/],
  [["intercept", "--config", "a", "--apply", "--remove"], /intercept needs one of/],
  [["intercept", "--config", "a", "--remove", "--with-proxy"], /--with-proxy is for --apply/],
  [["--config", "a", "--restore"], /--restore needs a value .write --restore DIR/],
  [["--config", "a", "--receive=127.0.0.1"], /--receive: /],
];
for (const [args, want] of wrongUsages) {
  wrong(`given ${JSON.stringify(args.join(" "))}, then ${want.source}`, () => {
    const parsed = parseCommandLine(args);
    if (parsed.ok) throw new Error("accepted");
    assert.match(parsed.message, want);
    assert.not.match(parsed.message, /\n/);
    assert.match(parsed.message, /\(.+\)$/, "no remedy");
  });
}
wrong.run();
