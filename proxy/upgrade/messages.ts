/**
 * What the proxy that goes and the one that comes say to each other, and who owns what meanwhile.
 *
 *   step      │ old says            │ new says │ listeners │ half-opens │ a session         │ new dies     │ old dies
 *   ──────────┼─────────────────────┼──────────┼───────────┼────────────┼───────────────────┼──────────────┼─────────────
 *   preparing │ hello, listener …   │ ready    │ old       │ old        │ old               │ old goes on  │ new exits 1
 *   switching │ ports …, pool …, go │ started  │ both hold │ new        │ old               │ old goes on, │ new goes on
 *   moving    │ sessions …          │ adopted  │ new       │ new        │ whoever acted     │ without what │ with what it
 *             │                     │          │           │            │ last; one sent    │ it gave away │ has
 *             │                     │          │           │            │ and not adopted   │              │
 *             │                     │          │           │            │ is reset          │              │
 *   ending    │ done                │ finished │ new       │ new        │ new               │ old has gone │ new goes on
 *
 * Descriptors travel beside: of hello none, of a listener its sockets, of ports the reservations, of sessions each
 * client's and, where there is one, its upstream's. Until the last column's step both processes hold the listening
 * sockets, so that no client in their backlogs is lost whoever dies.
 */
import * as z from "zod";
import { ENTRY_STATES } from "../../pool/entry-table.ts";
import { INHERITED } from "../../pool/pool-block.ts";
import { recordSchema } from "../checkpoint/images/image-schema.ts";
import { PATHS } from "../status.ts";

export const PROTOCOL_VERSION = 1;

const count = z.number().min(0);
const index = z.int().min(0);
const port = z.int().min(0).max(0xffff);
const endpoint = z.strictObject({ address: z.string().max(64), port });
const byteArray = (length: number) =>
  z.instanceof(Uint8Array).refine((bytes) => bytes.length === length, `not ${length} bytes`);

const ENTRY_BYTES = 128;
const entry = z.strictObject({
  index,
  state: z.enum(ENTRY_STATES),
  words: byteArray(ENTRY_BYTES),
  port,
  openedAtMs: z.number(),
  sentAtMs: z.number(),
  attempts: index,
  resetsSent: index,
  isForNow: z.boolean(),
});
const memory = z.strictObject({
  rtt: z.strictObject({ srttMs: count, rttvarMs: count, minMs: count }),
  demand: z.strictObject({ peak: count, atMs: z.number() }),
  isCookies: z.boolean(),
});
const histogram = z.strictObject({
  boundsSeconds: z.array(count).readonly(),
  counts: z.array(count).readonly(),
  sumSeconds: count,
});
const traffic = z.strictObject({
  routes: z
    .array(
      z.strictObject({
        listener: z.string(),
        upstream: z.string(),
        total: count,
        bytesUpstream: count,
        bytesDownstream: count,
        roundTripsSaved: count,
        secondsSaved: count,
        paths: z.record(z.enum(PATHS), count),
      }),
    )
    .readonly(),
  materialize: histogram,
  firstByte: z.record(z.enum(PATHS), histogram),
});

export const messageSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("hello"),
    program: z.string(),
    listeners: index,
    /** What sequence numbers are made with; absent where nothing is accelerated. */
    secret: z.instanceof(Uint8Array).optional(),
  }),
  z.strictObject({ kind: z.literal("listener"), name: z.string(), bind: endpoint }),
  z.strictObject({ kind: z.literal("ready") }),
  z.strictObject({ kind: z.literal("ports"), numbers: z.array(port) }),
  z.strictObject({
    kind: z.literal("pool"),
    upstream: z.string(),
    server: endpoint,
    memory,
    entries: z.array(entry),
  }),
  z.strictObject({ kind: z.literal("go") }),
  z.strictObject({ kind: z.literal("started") }),
  z.strictObject({
    kind: z.literal("sessions"),
    /** When they were asked to leave, ms of clock.nowMs(), which all processes of a host share. */
    sinceMs: z.number(),
    records: z.array(recordSchema),
  }),
  z.strictObject({ kind: z.literal("adopted") }),
  z.strictObject({
    kind: z.literal("done"),
    traffic,
    pools: z.array(
      z.strictObject({
        upstream: z.string(),
        server: endpoint,
        counts: z.record(z.enum(INHERITED), count),
      }),
    ),
  }),
  z.strictObject({ kind: z.literal("finished") }),
]);
export type Message = z.infer<typeof messageSchema>;
export type MessageOf<K extends Message["kind"]> = Extract<Message, { kind: K }>;
