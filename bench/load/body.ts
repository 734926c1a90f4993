import { Random } from "../lab/random.ts";

/** A prime, so that a piece that is lost, doubled or swapped at any power of two does not go unnoticed. */
export const BODY_PERIOD = 65_537;

const random = new Random(1);
const block = Uint8Array.from({ length: BODY_PERIOD }, () => random.next() * 256);

/** What the origin answers to `GET /LENGTH`: the same bytes in every process. */
export function bodyOf(length: number): Buffer {
  return length === 0 ? Buffer.alloc(0) : Buffer.alloc(length, block);
}
