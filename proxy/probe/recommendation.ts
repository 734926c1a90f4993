/** What to write under `pool` for an upstream, and why. Pure. */
import { RTT_MAX } from "../../pool/limits.ts";
import { type Finding, round, type Saving } from "./analysis.ts";

export type Recommendation =
  | {
      readonly accelerate: true;
      readonly pool: { readonly min: number; readonly max: number };
      readonly reason: string;
    }
  | { readonly accelerate: false; readonly pool: null; readonly reason: string };

export interface Grounds {
  readonly rttMs: number;
  readonly saving: Saving | null;
  /** Only the handshake was timed: the share of it that is saved says nothing. */
  readonly handshakeOnly: boolean;
  readonly cookies: boolean;
  readonly findings: readonly Finding[];
}

/** Below these, half-opens cost the upstream more than they give the client. */
const SAVING_MS_MIN = 0.5;
const SAVING_PERCENT_MIN = 5;
/** New connections a second that `max` is to serve. */
const RATE = 200;
const MAX_LEAST = 8;
const MAX_MOST = 64;
const MAX_STEP = 8;
const MIN = 2;
const COOKIES_MAX = 8;

export function recommend({ rttMs, saving, handshakeOnly, cookies, findings }: Grounds): Recommendation {
  const lost = findings.find(({ kind }) => kind === "half-opens-lost" || kind === "handshakes-lost");
  if (rttMs > RTT_MAX)
    return off(`beyond a round trip of ${RTT_MAX} ms half-open connections cannot be kept`);
  if (lost !== undefined) return off(lost.detail);
  if (saving === null) return off("no half-open connection was answered");
  // A round trip is all there is to save; what looks like more is noise.
  const isSmall =
    Math.min(saving.ms, rttMs) < SAVING_MS_MIN || (!handshakeOnly && saving.percent < SAVING_PERCENT_MIN);
  if (isSmall)
    return off(`there is too little to gain: ${round(saving.ms)} ms, ${saving.percent.toFixed(0)} %`);
  if (cookies) {
    const reason = "the upstream answers with SYN cookies: its SYN queue is small or full, so keep few";
    return { accelerate: true, pool: { min: 1, max: COOKIES_MAX }, reason };
  }
  const max = maxFor(rttMs);
  const reason = `saves ${round(saving.ms)} ms a connection; max serves about ${rateOf(max, rttMs)} new connections a second, and should stay below half of the upstream's backlog`;
  return { accelerate: true, pool: { min: MIN, max }, reason };
}

function off(reason: string): Recommendation {
  return { accelerate: false, pool: null, reason };
}

/** Half-opens that one arrival a second takes: two refills' worth and half again, as pool/demand.ts sizes pools. */
function perRate(rttMs: number): number {
  return (1.5 * 2 * (Math.max(rttMs, 20) + 10)) / 1e3;
}

function maxFor(rttMs: number): number {
  const wanted = Math.ceil((RATE * perRate(rttMs)) / MAX_STEP) * MAX_STEP;
  return Math.min(Math.max(wanted, MAX_LEAST), MAX_MOST);
}

function rateOf(max: number, rttMs: number): number {
  return Math.floor(max / perRate(rttMs) / 10) * 10;
}
