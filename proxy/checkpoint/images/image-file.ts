/**
 * Images on disk: DIR/sessions.images is either the old file or the new one, whatever happens while it is written.
 * Read "Atomic file replacement" as fsync(2) and rename(2) have it: temporary name, fsync, rename, fsync of the
 * directory.
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { hostname, release } from "node:os";
import { join } from "node:path";
import { AccelproxyError, errorSymbol } from "../../errors.ts";
import { version } from "../../version.ts";
import { decodeImages, encodeImages, type Images } from "./image-format.ts";
import type { SessionImage } from "./image-schema.ts";

const NAME = "sessions.images";
const LEFTOVER = /^sessions\.images\.[0-9a-f]{16}\.tmp$/;

/**
 * Writes all sessions into `dir`, replacing what was there; returns the file's path once it is on the disk. Leaves
 * nothing behind when it fails, also when `sessions` throws; what a killed writer left goes with the next write.
 * Mode 0600. Throws AccelproxyError ACCEL_IMAGE_WRITE, and whatever `sessions` throws.
 */
export function writeImages(dir: string, sessions: Iterable<SessionImage>): string {
  const path = join(dir, NAME);
  const temporary = `${path}.${randomBytes(8).toString("hex")}.tmp`;
  const header = {
    program: version,
    host: hostname(),
    kernel: release(),
    createdAt: new Date().toISOString(),
  };
  attempt(dir, () => removeLeftovers(dir));
  const fd = attempt(dir, () => fs.openSync(temporary, "wx", 0o600));
  try {
    try {
      for (const bytes of encodeImages(header, sessions, path)) attempt(dir, () => writeAll(fd, bytes));
      attempt(dir, () => fs.fsyncSync(fd));
    } finally {
      fs.closeSync(fd);
    }
    attempt(dir, () => fs.renameSync(temporary, path));
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  }
  attempt(dir, () => syncDirectory(dir));
  return path;
}

/**
 * All sessions of `dir`, checked. Throws AccelproxyError ACCEL_IMAGE_MISSING, ACCEL_IMAGE_READ, and what
 * decodeImages() does.
 */
export function readImages(dir: string): Images & { readonly path: string } {
  const path = join(dir, NAME);
  return { ...decodeImages(readFile(path), path), path };
}

/** The images of `dir` are used up, durably. Throws AccelproxyError ACCEL_IMAGE_WRITE. */
export function removeImages(dir: string): void {
  attempt(dir, () => fs.rmSync(join(dir, NAME)));
  attempt(dir, () => syncDirectory(dir));
}

function readFile(path: string): Uint8Array {
  try {
    return fs.readFileSync(path);
  } catch (cause) {
    const symbol = errorSymbol(cause);
    if (symbol === "ENOENT" || symbol === "ENOTDIR") {
      const problem = "there are no images (give the DIR of accelproxy checkpoint --dir)";
      throw new AccelproxyError("ACCEL_IMAGE_MISSING", `${path}: ${problem}`, { cause });
    }
    const problem = `cannot be read: ${symbol} (run as the user that wrote it)`;
    throw new AccelproxyError("ACCEL_IMAGE_READ", `${path}: ${problem}`, { cause });
  }
}

const WRITE_REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: "make it first: mkdir -m 700 DIR",
  ENOTDIR: "give a directory",
  EACCES: "give a directory that this user may write to",
  EROFS: "give one that is not mounted read-only",
  ENOSPC: "free some space, or give another directory",
  EDQUOT: "raise the quota, or give another directory",
};

/** Runs what touches the disk; any error of Node becomes ACCEL_IMAGE_WRITE. */
function attempt<T>(dir: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    const symbol = errorSymbol(cause);
    const remedy = WRITE_REMEDIES[symbol] ?? "give another directory";
    throw new AccelproxyError(
      "ACCEL_IMAGE_WRITE",
      `${dir}: images cannot be written: ${symbol} (${remedy})`,
      {
        cause,
      },
    );
  }
}

/** write(2) may take a part only, as when the disk is nearly full. */
function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(fd, bytes, at);
}

function removeLeftovers(dir: string): void {
  for (const name of fs.readdirSync(dir)) {
    if (LEFTOVER.test(name)) fs.rmSync(join(dir, name), { force: true });
  }
}

function syncDirectory(dir: string): void {
  const fd = fs.openSync(dir, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
