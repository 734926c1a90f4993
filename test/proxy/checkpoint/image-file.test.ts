// Goal: the file of images is the old one or the new one, whatever happens to its writer or its disk, and only its
// owner can read it. Method: writers killed at random moments (more of them in `npm run soak -- images`); a tmpfs of 64 KiB and one mounted read-only, in a mount
// namespace of their own.
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readImages, writeImages } from "../../../proxy/checkpoint/images/image-file.ts";
import { AccelproxyError } from "../../../proxy/errors.ts";
import { killWriters, WRITER } from "./killed-writers.ts";
import { sampleSession } from "./session-images.ts";

const KILLS = 3;

const root = fs.mkdtempSync(join(tmpdir(), "accelproxy-images-"));
process.on("exit", () => fs.rmSync(root, { recursive: true, force: true }));

let folders = 0;
function newFolder(): string {
  const dir = join(root, String(folders++));
  fs.mkdirSync(dir);
  return dir;
}

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof AccelproxyError) return `${error.code} ${error.message}`;
    throw error;
  }
  return "no error";
}

const file = suite("image file");

file("given sessions, then they are read again, and only the owner may", () => {
  const dir = newFolder();
  const umask = process.umask(0);
  const path = writeImages(dir, [sampleSession(1), sampleSession(2)]);
  process.umask(umask);
  assert.is(path, join(dir, "sessions.images"));
  assert.is(fs.statSync(path).mode & 0o7777, 0o600);
  const { sessions, header } = readImages(dir);
  assert.equal(sessions, [sampleSession(1), sampleSession(2)]);
  assert.ok(Math.abs(Date.parse(header.createdAt) - Date.now()) < 60_000);
  assert.equal(fs.readdirSync(dir), ["sessions.images"]);
});

file("given sessions that fail half-way, then the old file and nothing else", () => {
  const dir = newFolder();
  writeImages(dir, [sampleSession(1)]);
  const failing = function* () {
    yield sampleSession(2);
    throw new Error("dump failed");
  };
  assert.throws(() => writeImages(dir, failing()), /^dump failed$/);
  assert.equal(readImages(dir).sessions, [sampleSession(1)]);
  assert.equal(fs.readdirSync(dir), ["sessions.images"]);
});

file("given no directory, no file, or a directory in its place, then each is told", () => {
  const dir = newFolder();
  assert.match(
    codeOf(() => writeImages(join(dir, "none"), [])),
    /^ACCEL_IMAGE_WRITE .*ENOENT \(make it first/,
  );
  assert.match(
    codeOf(() => readImages(dir)),
    /^ACCEL_IMAGE_MISSING .*sessions\.images: there are no images/,
  );
  fs.mkdirSync(join(dir, "sessions.images"));
  assert.match(
    codeOf(() => readImages(dir)),
    /^ACCEL_IMAGE_READ .*EISDIR/,
  );
  assert.match(
    codeOf(() => writeImages(dir, [])),
    /^ACCEL_IMAGE_WRITE .*EISDIR/,
  );
  assert.equal(fs.readdirSync(dir), ["sessions.images"]);
});

file(`given its writer killed ${KILLS} times, then always one whole generation`, async () => {
  const dir = newFolder();
  await killWriters(dir, KILLS);
  writeImages(dir, []);
  assert.equal(fs.readdirSync(dir), ["sessions.images"]);
});

for (const [given, size, prepare, writes, wanted, left] of [
  ["a full disk", "64k", "true", "2 100 2 60000", /^\S+\nACCEL_IMAGE_WRITE .*ENOSPC \(free/, 2],
  ["a full disk at the first byte", "4k", "true", "1 9000", /^ACCEL_IMAGE_WRITE .*ENOSPC/, undefined],
  ["a read-only disk", "64k", 'mount -o remount,ro "$DIR"', "2 100", /^ACCEL_IMAGE_WRITE .*EROFS/, undefined],
] as const) {
  file(`given ${given}, then an error and ${left === undefined ? "no file" : "the old file"}`, () => {
    const dir = newFolder();
    const copy = newFolder();
    const script = [
      "set -e",
      `mount -t tmpfs -o size=${size} accelproxy "$DIR"`,
      prepare,
      `"$@" "$DIR" ${writes}`,
      'cp -a "$DIR/." "$COPY"',
    ].join("\n");
    const flags = process.getuid?.() === 0 ? "-m" : "-rm";
    const { status, stdout, stderr } = spawnSync("unshare", [flags, "sh", "-c", script, "sh", ...WRITER], {
      encoding: "utf8",
      env: { ...process.env, DIR: dir, COPY: copy },
    });
    assert.is(status, 0, stderr);
    assert.match(stdout, wanted);
    assert.equal(fs.readdirSync(copy), left === undefined ? [] : ["sessions.images"]);
    if (left !== undefined) assert.is(readImages(copy).sessions.length, left);
  });
}

file.run();
