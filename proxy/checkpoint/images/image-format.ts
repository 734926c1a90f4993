/**
 * The bytes of an image file. A line with the version, then frames:
 *
 *   "accelproxy images 1\n"
 *   "H" │ length of the payload u32 BE │ SHA-256 of kind and payload │ payload, CBOR    the header
 *   "S" │ …                                                                             for each session
 *   "E" │ …                                                                             how many sessions there are
 *
 * A file that was cut off has no end, one whose frames were taken away or doubled the wrong number, or a connection
 * twice. The checksum is against accidents; who may write the file is a matter of its mode.
 */
import { createHash } from "node:crypto";
import { decode, encode } from "cborg";
import type * as z from "zod";
import type { TcpImage } from "../../../native/repair/image.ts";
import { AccelproxyError } from "../../errors.ts";
import {
  endSchema,
  headerSchema,
  type ImagesHeader,
  type SessionImage,
  sessionSchema,
} from "./image-schema.ts";

const VERSION = 1;
const TITLE = "accelproxy images ";
const TITLE_LINE = /^accelproxy images ([0-9]{1,9})\n/;
const TITLE_LINE_MAX = TITLE.length + 10;

// Of a frame's head: kind, length, checksum.
const LENGTH_AT = 1;
const SUM_AT = 5;
const PAYLOAD_AT = 37;

const KIND = { header: "H", session: "S", end: "E" } as const;
type Kind = (typeof KIND)[keyof typeof KIND];

/** One way to write a value, no exotic ones to read. */
const DECODING = {
  strict: true,
  rejectDuplicateMapKeys: true,
  allowIndefinite: false,
  allowBigInt: false,
  allowNaN: false,
  allowInfinity: false,
} as const;

const INTACT = "copy the file again, or restore another checkpoint";

/** What a file holds. */
export interface Images {
  readonly header: ImagesHeader;
  readonly sessions: readonly SessionImage[];
}

/**
 * The file's bytes, piece by piece, so that no more than one session is in memory twice. `file` is its name in
 * messages. Throws AccelproxyError ACCEL_IMAGE_INVALID for what decodeImages() would refuse.
 */
export function* encodeImages(
  header: ImagesHeader,
  sessions: Iterable<SessionImage>,
  file: string,
): Generator<Uint8Array> {
  yield Buffer.from(`${TITLE}${VERSION}\n`);
  yield* frame(KIND.header, headerSchema, header, file, 0);
  let record = 0;
  for (const session of sessions) yield* frame(KIND.session, sessionSchema, session, file, ++record);
  yield* frame(KIND.end, endSchema, { sessions: record }, file, record + 1);
}

function* frame<T>(
  kind: Kind,
  schema: z.ZodType<T>,
  value: T,
  file: string,
  record: number,
): Generator<Uint8Array> {
  const result = schema.safeParse(value);
  if (!result.success) throw invalid(file, record, result.error, "report it: accelproxy should not write it");
  const payload = encode(result.data);
  const head = Buffer.alloc(PAYLOAD_AT);
  head.write(kind, "latin1");
  head.writeUInt32BE(payload.length, LENGTH_AT);
  head.set(sumOf(kind, payload), SUM_AT);
  yield head;
  yield payload;
}

const sumOf = (kind: string, payload: Uint8Array): Buffer =>
  createHash("sha256").update(kind, "latin1").update(payload).digest();

/**
 * Reads all of a file, or nothing. `file` is its name in messages. Throws AccelproxyError ACCEL_IMAGE_VERSION,
 * ACCEL_IMAGE_DAMAGED for a file that is cut off or was changed, ACCEL_IMAGE_INVALID for a field that cannot be.
 */
export function decodeImages(bytes: Uint8Array, file: string): Images {
  const reader = new FrameReader(bytes, file);
  const header = reader.next(KIND.header, headerSchema);
  const sessions: SessionImage[] = [];
  while (reader.kind === KIND.session) sessions.push(reader.next(KIND.session, sessionSchema));
  const end = reader.next(KIND.end, endSchema);
  if (reader.kind !== "") throw damaged(file, "something follows the last record");
  if (end.sessions !== sessions.length) {
    throw damaged(file, `there are ${sessions.length} sessions where it tells of ${end.sessions}`);
  }
  refuseTwins(sessions, file);
  return { header, sessions };
}

/** Record 0 is the header, the sessions count from 1, the last one is the end. */
class FrameReader {
  readonly #bytes: Buffer;
  readonly #file: string;
  #at: number;
  #record = 0;

  constructor(bytes: Uint8Array, file: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#file = file;
    const title = TITLE_LINE.exec(this.#bytes.toString("latin1", 0, TITLE_LINE_MAX));
    if (title === null) throw damaged(file, "the first line is not that of a file of images");
    if (title[1] !== String(VERSION)) {
      throw new AccelproxyError(
        "ACCEL_IMAGE_VERSION",
        `${file}: images of version ${title[1]}, while this accelproxy reads ${VERSION} (restore with the accelproxy that wrote them)`,
      );
    }
    this.#at = title[0].length;
  }

  /** Of the next record; "" at the end of the file. */
  get kind(): string {
    return this.#bytes.toString("latin1", this.#at, this.#at + 1);
  }

  next<T>(kind: Kind, schema: z.ZodType<T>): T {
    const record = this.#record++;
    const head = this.#bytes.subarray(this.#at, this.#at + PAYLOAD_AT);
    if (head.length < PAYLOAD_AT) throw damaged(this.#file, `record ${record} is cut off`);
    if (this.kind !== kind) throw damaged(this.#file, `record ${record} is none that can be in this place`);
    const start = this.#at + PAYLOAD_AT;
    const end = start + head.readUInt32BE(LENGTH_AT);
    if (end > this.#bytes.length) throw damaged(this.#file, `record ${record} is cut off`);
    const payload = this.#bytes.subarray(start, end);
    if (!sumOf(kind, payload).equals(head.subarray(SUM_AT))) {
      throw damaged(this.#file, `record ${record} was changed: its checksum is another`);
    }
    this.#at = end;
    const result = schema.safeParse(this.#parse(record, payload));
    if (result.success) return result.data;
    throw invalid(this.#file, record, result.error, INTACT);
  }

  #parse(record: number, payload: Uint8Array): unknown {
    try {
      return decode(payload, DECODING);
    } catch (cause) {
      throw damaged(this.#file, `record ${record} is no CBOR`, cause);
    }
  }
}

function damaged(file: string, problem: string, cause?: unknown): AccelproxyError {
  return new AccelproxyError("ACCEL_IMAGE_DAMAGED", `${file}: ${problem} (${INTACT})`, { cause });
}

function invalid(file: string, record: number, cause: z.ZodError, remedy: string): AccelproxyError {
  const { path, message } = cause.issues[0]!;
  const field = path.length === 0 ? "" : ` field ${path.join(".")}:`;
  const text = `${file}: record ${record}:${field} ${message} (${remedy})`;
  return new AccelproxyError("ACCEL_IMAGE_INVALID", text, { cause });
}

/** The kernel has each 4-tuple once. */
function refuseTwins(sessions: readonly SessionImage[], file: string): void {
  const seen = new Set<string>();
  for (const [i, { client, upstream }] of sessions.entries()) {
    for (const [side, image] of Object.entries({ client, upstream })) {
      if (image === undefined) continue;
      const key = tupleKey(image);
      if (seen.has(key)) {
        const problem = `record ${i + 1}: field ${side}: a connection that is there already`;
        throw new AccelproxyError("ACCEL_IMAGE_INVALID", `${file}: ${problem} (${INTACT})`);
      }
      seen.add(key);
    }
  }
}

const tupleKey = ({ local, remote }: TcpImage): string =>
  [local, remote].map(({ address, port }) => `${address.join(".")}:${port}`).join(" ");
