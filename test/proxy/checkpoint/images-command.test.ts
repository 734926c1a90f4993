// Goal: `accelproxy images` and `accelproxy keys` as a user meets them. Method: the commands from source.
import * as fs from "node:fs";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { writeImages } from "../../../proxy/checkpoint/images/image-file.ts";
import { pathOf, runCommand } from "../command.ts";
import { sampleSession } from "./session-images.ts";

function checkpoint(name: string): string {
  const dir = pathOf(name);
  fs.mkdirSync(dir);
  const waiting = sampleSession(2);
  writeImages(dir, [
    sampleSession(1, 70),
    { ...waiting, record: { ...waiting.record, state: "waiting", server: undefined }, upstream: undefined },
  ]);
  return dir;
}

const command = suite("images and keys: commands");

command("given a checkpoint, then a table for people", async () => {
  const { code, stdout, stderr } = await runCommand(["images", checkpoint("table")]);
  assert.equal([code, stderr], [0, ""]);
  const [head, blank, ...lines] = stdout.split("\n");
  assert.match(head!, /^2 sessions of 20\d\d-\S+Z, by accelproxy \d\S+ on \S+ \(Linux \S+\)$/);
  assert.is(blank, "");
  assert.equal(
    lines.map((line) => line.split(/ {2,}/)),
    [
      ["LISTENER", "CLIENT", "TCP", "UPSTREAM", "SERVER", "TCP", "SESSION", "PATH", "BYTES"],
      [
        "api",
        "10.0.0.2:1025",
        "CLOSE_WAIT",
        "origin",
        "10.0.0.2:8080",
        "ESTABLISHED",
        "open",
        "accelerated",
        "140",
      ],
      ["api", "10.0.0.2:1026", "CLOSE_WAIT", "origin", "-", "-", "waiting", "accelerated", "0"],
      [""],
    ],
  );
});

command("given --json, then the same as JSON", async () => {
  const dir = checkpoint("json");
  const { code, stdout } = await runCommand(["images", dir, "--json"]);
  assert.is(code, 0);
  const { file, sessions } = JSON.parse(stdout);
  assert.is(file, `${dir}/sessions.images`);
  assert.equal(sessions[0], {
    listener: "api",
    upstream: "origin",
    server: "10.0.0.7:8080",
    state: "open",
    path: "accelerated",
    idleMs: 0.25,
    client: {
      local: "10.0.0.1:8001",
      remote: "10.0.0.2:1025",
      state: "CLOSE_WAIT",
      receivedBytes: 0,
      sentBytes: 0,
      unsentBytes: 0,
    },
    upstreamConnection: {
      local: "10.0.0.1:20001",
      remote: "10.0.0.2:8080",
      state: "ESTABLISHED",
      receivedBytes: 70,
      sentBytes: 0,
      unsentBytes: 0,
    },
    upBytes: 70,
    downBytes: 0,
  });
  assert.equal([sessions[1].server, sessions[1].upstreamConnection], [null, null]);
});

command("given a file that was changed, or none, then one line on stderr and exit 1", async () => {
  const dir = checkpoint("changed");
  const path = `${dir}/sessions.images`;
  const bytes = fs.readFileSync(path);
  bytes[300]! ^= 1;
  fs.writeFileSync(path, bytes);
  const changed = await runCommand(["images", dir]);
  assert.equal([changed.code, changed.stdout], [1, ""]);
  assert.match(
    changed.stderr,
    /^accelproxy: .*sessions\.images: record 1 was changed: .*\(copy the file again.*\)\n$/,
  );
  const none = await runCommand(["images", pathOf("nowhere")]);
  assert.is(none.code, 1);
  assert.match(none.stderr, /^accelproxy: .*there are no images \(.*\)\n$/);
});

command("given keys twice, then made once", async () => {
  const dir = pathOf("keys");
  const made = await runCommand(["keys", dir]);
  assert.equal([made.code, made.stderr], [0, ""]);
  assert.ok(made.stdout.startsWith(`${dir}/move.key\n${dir}/move.crt\n`));
  const again = await runCommand(["keys", dir]);
  assert.is(again.code, 1);
  assert.match(again.stderr, /^accelproxy: .*move\.key is there already \(give another directory\)\n$/);
});

command.run();
