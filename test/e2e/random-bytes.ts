import { createCipheriv, createHash } from "node:crypto";

const CHUNK = 256 * 1024;

/** Pseudo-random bytes that depend on the seed alone, in chunks. */
export function* randomBytes(seed: number, total: number, chunk = CHUNK): Generator<Buffer> {
  const key = createHash("sha256").update(String(seed)).digest().subarray(0, 16);
  const cipher = createCipheriv("aes-128-ctr", key, Buffer.alloc(16));
  const zeros = Buffer.alloc(chunk);
  for (let left = total; left > 0; left -= chunk) {
    yield cipher.update(zeros.subarray(0, Math.min(left, chunk)));
  }
}
