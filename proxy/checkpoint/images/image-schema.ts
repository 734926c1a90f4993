/**
 * What an image file may contain: one description for what is written and what is read. Every number, length and
 * address is checked here both times, so that a plan never meets one the kernel could misread, and a checkpoint
 * that could not be restored fails while its connections are still there.
 */
import * as z from "zod";
import { type LiveState, TCP_STATES, type TcpEnd, type TcpImage } from "../../../native/repair/image.ts";
import { OPTION_ROWS, type OptionName, type OptionValue, optionRow } from "../../../native/repair/options.ts";
import { VERDICTS } from "../../../pool/entry-table.ts";
import { PORTABLE_STATES, type SessionRecord } from "../../engine/session-record.ts";
import { PATHS } from "../../status.ts";

/** A session that left its process: what the proxy knows of it, and its two connections. */
export interface SessionImage {
  readonly record: SessionRecord;
  readonly client: TcpImage;
  /** Undefined while the session has no upstream connection that could be kept. */
  readonly upstream: TcpImage | undefined;
}

/** Where and when a file was written. */
export interface ImagesHeader {
  /** Version of accelproxy. */
  readonly program: string;
  readonly host: string;
  readonly kernel: string;
  /** ISO 8601, UTC. */
  readonly createdAt: string;
}

// RFC 7323 section 2.3: the largest window, which also bounds what a queue can hold.
const WINDOW_MAX = 65_535 << 14;
const WSCALE_MAX = 14;
// IFNAMSIZ and TCP_CA_NAME_MAX without the NUL.
const OPTION_TEXT_MAX = 15;
const NAME_MAX = 300;

const u16 = z.int().min(0).max(0xffff);
const u32 = z.int().min(0).max(0xffff_ffff);
const i32 = z.int().min(-0x8000_0000).max(0x7fff_ffff);
const size = z.int().min(1).max(0xffff);
const windowBytes = z.int().min(0).max(WINDOW_MAX);
const count = z.int().min(0);
// Nothing that a terminal would obey.
const name = z
  .string()
  .max(NAME_MAX)
  .regex(/^\P{Cc}+$/u, "empty, or with control characters");
/** Milliseconds, fractions too; negative for what is overdue. */
const durationMs = z.number();
const bytes = z
  .instanceof(Uint8Array)
  .refine(({ length }) => length <= WINDOW_MAX, `more bytes than a window can have, ${WINDOW_MAX}`);

function orUndefined<T extends z.ZodType>(inner: T): z.ZodType<z.output<T> | undefined> {
  return z.optional(inner);
}

const end: z.ZodType<TcpEnd> = z.strictObject({
  address: z
    .instanceof(Uint8Array)
    .refine(({ length }) => length === 4 || length === 16, "an address has 4 or 16 bytes"),
  port: z.int().min(1).max(0xffff),
});

const repairWindow = z
  .strictObject({
    snd_wl1: u32,
    snd_wnd: windowBytes,
    max_window: windowBytes,
    rcv_wnd: windowBytes,
    rcv_wup: u32,
  })
  .refine(({ snd_wnd, max_window }) => snd_wnd <= max_window, {
    path: ["snd_wnd"],
    error: "larger than max_window",
  });

const wscale = z.strictObject({
  snd_wscale: z.int().min(0).max(WSCALE_MAX),
  rcv_wscale: z.int().min(0).max(WSCALE_MAX),
});

const OPTION_NAMES = OPTION_ROWS.map((row): OptionName => row.name);

const option: z.ZodType<OptionValue> = z
  .strictObject({ name: z.enum(OPTION_NAMES), value: z.union([i32, z.string()]) })
  .refine((candidate) => isOfItsKind(candidate), { path: ["value"], error: "not a value of this option" });

function isOfItsKind({ name: optionName, value }: OptionValue): boolean {
  switch (optionRow(optionName)?.kind) {
    case "integer":
      return typeof value === "number";
    case "linger":
      return typeof value === "number" && value >= -1;
    case "buffer":
      return typeof value === "number" && value >= 0;
    case "text":
      return typeof value === "string" && value.length <= OPTION_TEXT_MAX && /^[^\s/\0]*$/.test(value);
    case undefined:
      return false;
  }
}

function areInOrder(options: readonly OptionValue[]): boolean {
  const places = options.map((candidate) => OPTION_NAMES.indexOf(candidate.name));
  return places.every((place, i) => i === 0 || place > places[i - 1]!);
}

const optionList = z.array(option).refine(areInOrder, "options out of order, or one of them twice");

/** Connections of one kind share their list, which is looked at once. */
const checkedLists = new WeakSet<readonly OptionValue[]>();
const sharedOptionList = z.custom<readonly OptionValue[]>().superRefine((list, { addIssue }) => {
  if (checkedLists.has(list)) return;
  const result = optionList.safeParse(list);
  if (result.success) checkedLists.add(list);
  else for (const { path, message } of result.error.issues) addIssue({ code: "custom", path, message });
});

const WITH_OUR_FIN: readonly string[] = ["FIN_WAIT1", "FIN_WAIT2", "CLOSING", "LAST_ACK"];

const live: z.ZodType<LiveState> = z
  .strictObject({
    state: z.enum(TCP_STATES),
    received: bytes,
    sent: bytes,
    unsent: bytes,
    finSent: z.boolean(),
    mss: size,
    portChosen: z.boolean(),
    options: sharedOptionList,
  })
  .refine(({ state, finSent, unsent }) => !finSent || (WITH_OUR_FIN.includes(state) && unsent.length === 0), {
    path: ["finSent"],
    error: "a FIN cannot have been sent in this state or before these bytes",
  })
  .refine(({ state, sent, unsent }) => state !== "FIN_WAIT2" || (sent.length === 0 && unsent.length === 0), {
    path: ["sent"],
    error: "in FIN_WAIT2 everything is acknowledged",
  })
  .refine(
    ({ state, received, sent }) => state !== "SYN_SENT" || (received.length === 0 && sent.length === 0),
    { path: ["received"], error: "in SYN_SENT nothing can have been received or sent" },
  );

const tcpImage: z.ZodType<TcpImage> = z
  .strictObject({
    local: end,
    remote: end,
    snd_una: u32,
    rcv_nxt: u32,
    mss_clamp: size,
    advmss: size,
    wscale: orUndefined(wscale),
    sackPermitted: z.boolean(),
    tsval: orUndefined(u32),
    window: repairWindow,
    // Whoever restores chooses them; a file that could would set any option of any level.
    options: z.tuple([]),
    live,
  })
  .refine(({ local, remote }) => local.address.length === remote.address.length, {
    path: ["remote", "address"],
    error: "not of the family of the local address",
  });

const lease = z.strictObject({ entry: count, port: u16, verdict: z.enum(VERDICTS) });

export const recordSchema: z.ZodType<SessionRecord> = z.strictObject({
  state: z.enum(PORTABLE_STATES),
  listener: name,
  upstream: name,
  server: orUndefined(name),
  lease: orUndefined(lease),
  path: z.enum(PATHS),
  proof: z.strictObject({
    flight: orUndefined(bytes),
    bytesSent: count,
    ackSent: z.boolean(),
    acksSent: count,
    silenceReported: z.boolean(),
  }),
  up: bytes,
  down: bytes,
  clientEnded: z.boolean(),
  upstreamEnded: z.boolean(),
  clientEndedFirst: z.boolean(),
  finSent: z.boolean(),
  serversTried: count,
  firstByteAgeMs: orUndefined(durationMs),
  stateAgeMs: durationMs,
  idleMs: durationMs,
  connectLeftMs: durationMs,
});

const WITH_UPSTREAM: readonly string[] = ["unproven", "open"];

export const sessionSchema: z.ZodType<SessionImage> = z
  .strictObject({ record: recordSchema, client: tcpImage, upstream: orUndefined(tcpImage) })
  .refine((session) => (session.upstream !== undefined) === WITH_UPSTREAM.includes(session.record.state), {
    path: ["upstream"],
    error: "an upstream connection belongs to the states unproven and open",
  });

export const headerSchema: z.ZodType<ImagesHeader> = z.strictObject({
  program: name,
  host: name,
  kernel: name,
  createdAt: z.iso.datetime(),
});

export const endSchema: z.ZodType<{ readonly sessions: number }> = z.strictObject({ sessions: count });
