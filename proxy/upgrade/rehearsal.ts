/**
 * The code that sessions pass on their way runs for the first time when they do, unless it has run before: compiling it
 * would be most of the first sessions' pause. So both processes send themselves some while nobody waits.
 */
import { decode, encode } from "cborg";
import type { SessionRecord } from "../engine/session-record.ts";
import { BATCH, REHEARSALS } from "./limits.ts";
import { type Message, messageSchema } from "./messages.ts";

const RECORD: SessionRecord = {
  state: "unproven",
  listener: "rehearsal",
  upstream: "rehearsal",
  server: "192.0.2.1:80",
  lease: { entry: 0, port: 1, verdict: "none" },
  path: "accelerated",
  proof: {
    flight: new Uint8Array(100),
    bytesSent: 100,
    ackSent: false,
    acksSent: 0,
    silenceReported: false,
  },
  up: new Uint8Array(100),
  down: new Uint8Array(100),
  clientEnded: false,
  upstreamEnded: false,
  clientEndedFirst: false,
  finSent: false,
  serversTried: 1,
  firstByteAgeMs: 0.5,
  stateAgeMs: 0.5,
  idleMs: 0.5,
  connectLeftMs: 0.5,
};

/** Of sessions that do not exist, in the states that most are in. */
export function rehearsalRecords(length: number): SessionRecord[] {
  return Array.from({ length }, (_, index) => ({
    ...RECORD,
    ...(index % 2 === 0 && { state: "open" as const, lease: undefined, firstByteAgeMs: undefined }),
  }));
}

/** Writes and reads batches of sessions. */
export function rehearse(): void {
  const records = rehearsalRecords(BATCH);
  for (let turn = 0; turn < REHEARSALS; turn++) {
    const message: Message = { kind: "sessions", sinceMs: turn, records };
    messageSchema.parse(decode(encode(message)));
  }
}
