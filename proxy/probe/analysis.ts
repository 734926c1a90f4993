/** What the samples of a probe say. Pure; times are ms. */
import type { Exchange, Outcome } from "./exchange.ts";
import type { SynAckTraits } from "./observer.ts";

/** Percentiles by nearest rank, so that each was measured; null without a sample. */
export interface Distribution {
  readonly n: number;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p99: number | null;
  /** Exchanges without a time, by outcome. */
  readonly failed: Readonly<Partial<Record<Outcome, number>>>;
}

export interface Saving {
  readonly ms: number;
  readonly percent: number;
}

/**
 * syn-proxy: something nearer than the server answers SYNs. ttl, options: SYN-ACKs differ. half-opens-lost: the
 * server answers ordinary connections, and half-opens come to nothing, or only once their first data is sent again.
 * handshakes-lost: not even SYN-ACKs come for the SYNs of the pool.
 */
export interface Finding {
  readonly kind: "syn-proxy" | "ttl" | "options" | "half-opens-lost" | "handshakes-lost";
  readonly detail: string;
}

export interface Observations {
  /** From SYN to SYN-ACK; 0 when none of the pool's was answered. */
  readonly rttMs: number;
  readonly direct: readonly Exchange[];
  readonly accelerated: readonly Exchange[];
  readonly traits: SynAckTraits;
}

/** So much later than a SYN-ACK may an acknowledgement of data be without a reason to look closer. */
const ACK_SLACK_SHARE = 0.5;
const ACK_SLACK_MIN = 10;
/** Outcomes that speak against half-opens when ordinary connections have none of them. */
const LOST: readonly Outcome[] = ["vanished", "reset", "closed", "unanswered"];
/** One loss among many is the network's. */
const LOST_SHARE_MAX = 0.05;
const REPEATED_SHARE_MAX = 0.25;

export function distribution(exchanges: readonly Exchange[]): Distribution {
  const sorted = exchanges.flatMap(({ ms }) => (ms === undefined ? [] : [ms])).sort((a, b) => a - b);
  const at = (share: number): number | null => {
    const sample = sorted[Math.max(0, Math.ceil(Number((share * sorted.length).toPrecision(12))) - 1)];
    return sample ?? null;
  };
  const failed: Partial<Record<Outcome, number>> = {};
  for (const { ms, outcome } of exchanges) {
    if (ms === undefined) failed[outcome] = (failed[outcome] ?? 0) + 1;
  }
  return { n: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), failed };
}

/** Of the medians; null when one of them is missing. */
export function saving(direct: Distribution, accelerated: Distribution): Saving | null {
  if (direct.p50 === null || accelerated.p50 === null) return null;
  const ms = direct.p50 - accelerated.p50;
  return { ms, percent: direct.p50 > 0 ? (100 * ms) / direct.p50 : 0 };
}

/** What lies between, as far as it shows. */
export function findings(seen: Observations): Finding[] {
  return [synProxy(seen), ...traitFindings(seen.traits), lost(seen)].filter(
    (finding) => finding !== undefined,
  );
}

function synProxy({ rttMs, accelerated, traits }: Observations): Finding | undefined {
  if (traits.windows.includes(0)) {
    const detail = "SYN-ACKs with a window of 0, as SYN proxies send: the first data has to wait";
    return { kind: "syn-proxy", detail };
  }
  const acknowledged = accelerated.flatMap(({ dataRttMs }) => dataRttMs ?? []);
  if (acknowledged.length === 0 || rttMs === 0) return undefined;
  const soonest = Math.min(...acknowledged);
  if (soonest <= rttMs * (1 + ACK_SLACK_SHARE) + ACK_SLACK_MIN) return undefined;
  return {
    kind: "syn-proxy",
    detail: `a SYN-ACK takes ${round(rttMs)} ms, the acknowledgement of data at least ${round(soonest)} ms: a SYN proxy or load balancer on the way may answer for the server (or the server delays acknowledgements)`,
  };
}

function traitFindings({ ttls, options }: SynAckTraits): Finding[] {
  const found: Finding[] = [];
  if (ttls.length > 1) {
    const detail = `SYN-ACKs arrive with time to live ${ttls.join(" and ")}: several machines or paths answer`;
    found.push({ kind: "ttl", detail });
  }
  if (options.length > 1) {
    const detail = `SYN-ACKs differ in their options (${options.join("; ")}): several machines answer, or one that changes packets`;
    found.push({ kind: "options", detail });
  }
  return found;
}

function lost({ direct, accelerated }: Observations): Finding | undefined {
  const works = direct.some(({ ms }) => ms !== undefined);
  if (!works || accelerated.length === 0) return undefined;
  const unavailable = accelerated.filter(({ outcome }) => outcome === "unavailable").length;
  if (unavailable === accelerated.length) {
    const detail = "ordinary connections work, half-open ones get no SYN-ACK in time";
    return { kind: "handshakes-lost", detail };
  }
  const isLost = ({ outcome }: Exchange) => LOST.includes(outcome);
  const [failures, ordinary] = [accelerated.filter(isLost), direct.filter(isLost)];
  if (failures.length / accelerated.length > LOST_SHARE_MAX + ordinary.length / direct.length) {
    const how = [...new Set(failures.map(({ outcome }) => outcome))].join(", ");
    const detail = `${failures.length} of ${accelerated.length} half-open connections came to nothing (${how}), of ordinary ones ${ordinary.length} of ${direct.length}`;
    return { kind: "half-opens-lost", detail };
  }
  const repeated = accelerated.filter(({ wasRepeated }) => wasRepeated).length;
  if (repeated / accelerated.length <= REPEATED_SHARE_MAX) return undefined;
  const detail = `the first data of ${repeated} of ${accelerated.length} half-open connections had to be sent again: something on the way drops it`;
  return { kind: "half-opens-lost", detail };
}

/** To a tenth. */
export function round(ms: number): string {
  return ms.toFixed(1);
}
