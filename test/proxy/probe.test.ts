// Goal: `accelproxy probe` without its privileges, without an address, with a terminal. What it measures is tested
// end to end. Method: the command line as a user runs it, and the command itself.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { runProbe } from "../../proxy/commands/probe.ts";
import { checkPrivileges } from "../../proxy/privileges.ts";
import { runCommand, UNPRIVILEGED } from "./command.ts";

const isPrivileged = checkPrivileges().ok;
const privileged = (test: ReturnType<typeof suite>) => (isPrivileged ? test : test.skip);

const usage = suite("probe: command");
privileged(usage)("given no capabilities, then exit 77 with the remedy", async () => {
  const { code, stdout, stderr } = await runCommand(["probe", "127.0.0.1:9"], UNPRIVILEGED);
  assert.equal([code, stdout], [77, ""]);
  assert.match(
    stderr,
    /^accelproxy: CAP_NET_RAW and CAP_NET_ADMIN missing, which a probe needs .*run as root/,
  );
  assert.is(stderr.split("\n").length, 2);
});

privileged(usage)("given a name without an address, then exit 1", async () => {
  const { code, stdout, stderr } = await runCommand(["probe", "nowhere.invalid:80"]);
  assert.equal([code, stdout], [1, ""]);
  assert.match(stderr, /^accelproxy: nowhere\.invalid:80: the name has no address \(.+\)\n$/);
});

for (const isTerminal of [true, false]) {
  privileged(usage)(
    `given a ${isTerminal ? "terminal" : "pipe"}, then ${isTerminal ? "progress" : "none"}`,
    async () => {
      let stderr = "";
      const output = {
        stdout: () => assert.unreachable("a report of nothing"),
        stderr: (text: string) => {
          stderr += text;
        },
      };
      const target = { host: "127.0.0.1", port: 1 };
      const stop = new AbortController().signal;
      const command = { target, count: 1, lifetime: false, json: false, isTerminal, stop };
      assert.is(await runProbe(command, output), 1);
      const progress = isTerminal ? "\r\x1b[Kconnecting to 127.0.0.1:1\r\x1b[K" : "";
      assert.is(
        stderr,
        `${progress}accelproxy: 127.0.0.1:1 refuses connections (is the server running, and on this port?)\n`,
      );
    },
  );
}
usage.run();
