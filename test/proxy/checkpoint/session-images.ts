/** Sessions to write and read: any that the description allows, and one of each kind. */
import fc from "fast-check";
import { type LiveState, TCP_STATES, type TcpEnd, type TcpImage } from "../../../native/repair/image.ts";
import { OPTION_ROWS, type OptionRow, type OptionValue } from "../../../native/repair/options.ts";
import { VERDICTS } from "../../../pool/entry-table.ts";
import type { SessionImage } from "../../../proxy/checkpoint/images/image-schema.ts";
import { PORTABLE_STATES, type SessionRecord } from "../../../proxy/engine/session-record.ts";
import { PATHS } from "../../../proxy/status.ts";

const u32 = fc.nat(0xffff_ffff);
const u16 = fc.nat(0xffff);
const size = fc.integer({ min: 1, max: 0xffff });
const wscale = fc.nat(14);
const windowBytes = fc.nat(65_535 << 14);
const bytes = fc.uint8Array({ maxLength: 300 });
const name = fc.string({ minLength: 1, maxLength: 40 });
const durationMs = fc.double({ noNaN: true, noDefaultInfinity: true });
const orUndefined = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });

const endOf = (length: number): fc.Arbitrary<TcpEnd> =>
  fc.record({ address: fc.uint8Array({ minLength: length, maxLength: length }), port: size });

const VALUES = {
  integer: fc.integer(),
  linger: fc.integer({ min: -1 }),
  buffer: fc.nat(),
  text: fc.stringMatching(/^[a-z0-9_.-]{0,15}$/),
} as const satisfies Record<OptionRow["kind"], fc.Arbitrary<number | string>>;

const options: fc.Arbitrary<OptionValue[]> = fc
  .subarray([...OPTION_ROWS])
  .chain((rows) =>
    fc.tuple(...rows.map((row) => VALUES[row.kind].map((value) => ({ name: row.name, value })))),
  );

const live: fc.Arbitrary<LiveState> = fc
  .record({
    state: fc.constantFrom(...TCP_STATES),
    received: bytes,
    sent: bytes,
    unsent: bytes,
    finSent: fc.boolean(),
    mss: size,
    portChosen: fc.boolean(),
    options,
  })
  .map((any) => {
    const none = new Uint8Array();
    const hasFin = ["FIN_WAIT1", "FIN_WAIT2", "CLOSING", "LAST_ACK"].includes(any.state);
    const finSent = any.finSent && hasFin;
    const unsent = finSent || any.state === "FIN_WAIT2" ? none : any.unsent;
    const sent = any.state === "FIN_WAIT2" || any.state === "SYN_SENT" ? none : any.sent;
    const received = any.state === "SYN_SENT" ? none : any.received;
    return { ...any, finSent, received, sent, unsent };
  });

const tcpImage: fc.Arbitrary<TcpImage> = fc
  .constantFrom(4, 16)
  .chain((length) =>
    fc.record({
      local: endOf(length),
      remote: endOf(length),
      snd_una: u32,
      rcv_nxt: u32,
      mss_clamp: size,
      advmss: size,
      wscale: orUndefined(fc.record({ snd_wscale: wscale, rcv_wscale: wscale })),
      sackPermitted: fc.boolean(),
      tsval: orUndefined(u32),
      window: fc.record({
        snd_wl1: u32,
        snd_wnd: windowBytes,
        max_window: windowBytes,
        rcv_wnd: windowBytes,
        rcv_wup: u32,
      }),
      options: fc.constant([]),
      live,
    }),
  )
  .map((image) => {
    const max_window = Math.max(image.window.snd_wnd, image.window.max_window);
    return { ...image, window: { ...image.window, max_window } };
  });

const record: fc.Arbitrary<SessionRecord> = fc.record({
  state: fc.constantFrom(...PORTABLE_STATES),
  listener: name,
  upstream: name,
  server: orUndefined(name),
  lease: orUndefined(fc.record({ entry: fc.nat(), port: u16, verdict: fc.constantFrom(...VERDICTS) })),
  path: fc.constantFrom(...PATHS),
  proof: fc.record({
    flight: orUndefined(bytes),
    bytesSent: fc.maxSafeNat(),
    ackSent: fc.boolean(),
    acksSent: fc.nat(),
    silenceReported: fc.boolean(),
  }),
  up: bytes,
  down: bytes,
  clientEnded: fc.boolean(),
  upstreamEnded: fc.boolean(),
  clientEndedFirst: fc.boolean(),
  finSent: fc.boolean(),
  serversTried: fc.nat(),
  firstByteAgeMs: orUndefined(durationMs),
  stateAgeMs: durationMs,
  idleMs: durationMs,
  connectLeftMs: durationMs,
});

/** Any session. Two of them have the same connection only if the generator draws 12 equal bytes. */
export const anySession: fc.Arbitrary<SessionImage> = fc
  .record({ record, client: tcpImage, upstream: tcpImage })
  .map((session) => ({
    ...session,
    upstream: ["unproven", "open"].includes(session.record.state) ? session.upstream : undefined,
  }));

const tcp = (local: number, remote: number, fields: Partial<LiveState> = {}): TcpImage => ({
  local: { address: Uint8Array.of(10, 0, 0, 1), port: local },
  remote: { address: Uint8Array.of(10, 0, 0, 2), port: remote },
  snd_una: 0xffff_fff0,
  rcv_nxt: 17,
  mss_clamp: 1_460,
  advmss: 1_460,
  wscale: { snd_wscale: 7, rcv_wscale: 9 },
  sackPermitted: true,
  tsval: 0x8000_0000,
  window: { snd_wl1: 16, snd_wnd: 64_256, max_window: 65_535, rcv_wnd: 65_535, rcv_wup: 17 },
  options: [],
  live: {
    state: "ESTABLISHED",
    received: new Uint8Array(),
    sent: new Uint8Array(),
    unsent: new Uint8Array(),
    finSent: false,
    mss: 1_448,
    portChosen: true,
    options: [
      { name: "SO_LINGER", value: -1 },
      { name: "TCP_CONGESTION", value: "cubic" },
      { name: "TCP_NODELAY", value: 1 },
    ],
    ...fields,
  },
});

/** An open session whose ports and whose numbers tell which one it is. */
export function sampleSession(index: number, queued = 0): SessionImage {
  const queue = new Uint8Array(queued).fill(index);
  return {
    record: {
      state: "open",
      listener: "api",
      upstream: "origin",
      server: "10.0.0.7:8080",
      lease: undefined,
      path: "accelerated",
      proof: { flight: undefined, bytesSent: 0, ackSent: false, acksSent: 0, silenceReported: false },
      up: queue,
      down: new Uint8Array(),
      clientEnded: true,
      upstreamEnded: false,
      clientEndedFirst: true,
      finSent: false,
      serversTried: index,
      firstByteAgeMs: undefined,
      stateAgeMs: 1.5,
      idleMs: 0.25,
      connectLeftMs: -3,
    },
    client: tcp(8_001, 1_024 + index, { state: "CLOSE_WAIT" }),
    upstream: tcp(20_000 + index, 8_080, { received: queue }),
  };
}
