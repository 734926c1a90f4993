/** Files of images taken apart, put together, and changed: for the tests and the soak of their format. */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import * as assert from "uvu/assert";
import { decodeImages, encodeImages } from "../../../proxy/checkpoint/images/image-format.ts";
import type { SessionImage } from "../../../proxy/checkpoint/images/image-schema.ts";
import { AccelproxyError } from "../../../proxy/errors.ts";
import { sampleSession } from "./session-images.ts";

export const FILE = "dir/sessions.images";
export const HEADER = {
  program: "0.1.0",
  host: "a",
  kernel: "6.18.0",
  createdAt: "2026-01-31T12:00:00.000Z",
};
const HEAD_SIZE = 37;

export const write = (sessions: readonly SessionImage[]): Buffer =>
  Buffer.concat([...encodeImages(HEADER, sessions, FILE)]);

/** The frames of a good file: kind and payload. */
export function framesOf(bytes: Buffer): { kind: string; payload: Buffer }[] {
  const frames = [];
  for (let at = bytes.indexOf("\n") + 1; at < bytes.length; ) {
    const end = at + HEAD_SIZE + bytes.readUInt32BE(at + 1);
    frames.push({ kind: bytes.toString("latin1", at, at + 1), payload: bytes.subarray(at + HEAD_SIZE, end) });
    at = end;
  }
  return frames;
}

/** A file of these frames, with lengths and checksums as they should be. */
export function fileOf(frames: readonly { kind: string; payload: Uint8Array }[]): Buffer {
  const parts: Uint8Array[] = [Buffer.from("accelproxy images 1\n")];
  for (const { kind, payload } of frames) {
    const head = Buffer.alloc(HEAD_SIZE);
    head.write(kind, "latin1");
    head.writeUInt32BE(payload.length, 1);
    head.set(createHash("sha256").update(kind).update(payload).digest(), 5);
    parts.push(head, payload);
  }
  return Buffer.concat(parts);
}

/** What became of files that were changed. */
export interface Outcomes {
  same: number;
  refused: number;
  /** Another value that we could have written. */
  good: number;
}

/**
 * Changes a good file `count` times and reads it, every second time with the checksums put right, as somebody with a
 * tool would. Throws when it is neither refused with a message that names the file nor good in itself.
 */
export function mutateImages(count: number, seed: number): Outcomes {
  const original = write([sampleSession(1), sampleSession(2, 9)]);
  const expected = decodeImages(original, FILE);
  const frames = framesOf(original);
  const random = mulberry32(seed);
  const outcomes: Outcomes = { same: 0, refused: 0, good: 0 };
  for (let i = 0; i < count; i++) {
    const resealed = i % 2 === 0;
    const frame = frames[Math.floor(random() * frames.length)]!;
    const bytes = resealed
      ? fileOf(
          frames.map((each) => (each === frame ? { ...each, payload: mutate(each.payload, random) } : each)),
        )
      : mutate(original, random);
    const outcome = outcomeOf(bytes, expected);
    outcomes[outcome]++;
    // Without the checksums put right nothing but the same bytes can pass.
    if (!resealed && outcome === "good") assert.unreachable(`mutation ${i} was accepted`);
  }
  return outcomes;
}

function outcomeOf(bytes: Buffer, expected: unknown): keyof Outcomes {
  let images: ReturnType<typeof decodeImages>;
  try {
    images = decodeImages(bytes, FILE);
  } catch (error) {
    if (!(error instanceof AccelproxyError) || !error.code.startsWith("ACCEL_IMAGE_")) throw error;
    assert.match(error.message, /^dir\/sessions\.images: .+ \(.+\)$/s);
    return "refused";
  }
  if (isDeepStrictEqual(images, expected)) return "same";
  const again = Buffer.concat([...encodeImages(images.header, images.sessions, FILE)]);
  assert.equal(decodeImages(again, FILE), images);
  return "good";
}

/** One change: a bit, a byte, a piece left out, doubled, or overwritten by another. */
function mutate(bytes: Buffer, random: () => number): Buffer {
  const at = Math.floor(random() * bytes.length);
  const length = 1 + Math.floor(random() * 16);
  const piece = bytes.subarray(at, at + length);
  switch (Math.floor(random() * 5)) {
    case 0:
    case 1: {
      const copy = Buffer.from(bytes);
      copy[at] = random() < 0.5 ? copy[at]! ^ (1 << Math.floor(random() * 8)) : Math.floor(random() * 256);
      return copy;
    }
    case 2:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 3:
      return Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]);
    default: {
      const copy = Buffer.from(bytes);
      copy.set(
        piece.subarray(0, bytes.length - at),
        Math.floor(random() * (bytes.length - piece.length + 1)),
      );
      return copy;
    }
  }
}

/** Tommy Ettinger's Mulberry32: the same numbers in every run. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
