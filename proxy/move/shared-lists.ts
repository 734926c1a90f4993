/**
 * Connections of one kind have the same list of options, the longest part of their images: it travels once a message, by
 * CBOR value sharing (http://cbor.schmorp.de/value-sharing): tag 28 marks a value, tag 29 names one by its number.
 */
import { type DecodeOptions, Tagged } from "cborg";
import type { TcpImage } from "../../native/repair/image.ts";
import type { SessionImage } from "../checkpoint/images/image-schema.ts";

const SHAREABLE = 28;
const SHARED = 29;

/** Sessions as encode() takes them, for one message. */
export function shareLists(images: readonly SessionImage[]): unknown[] {
  const numbers = new Map<object, number>();
  const shared = (list: object): Tagged => {
    const number = numbers.get(list);
    if (number !== undefined) return new Tagged(SHARED, number);
    numbers.set(list, numbers.size);
    return new Tagged(SHAREABLE, list);
  };
  const connection = (image: TcpImage): unknown =>
    image.live ? { ...image, live: { ...image.live, options: shared(image.live.options) } } : image;
  return images.map(({ record, client, upstream }) => ({
    record,
    client: connection(client),
    upstream: upstream && connection(upstream),
  }));
}

/** What decode() needs for a message: who is named twice is the same object. */
export function sharedLists(): DecodeOptions {
  const values: unknown[] = [];
  const tags = {
    [SHAREABLE]: (decode: () => unknown): unknown => {
      const number = values.push(undefined) - 1; // before those inside it
      values[number] = decode();
      return values[number];
    },
    [SHARED]: (decode: () => unknown): unknown => {
      const value = values[decode() as number];
      if (value === undefined) throw new Error("a shared value that is not there");
      return value;
    },
  };
  return { tags };
}
