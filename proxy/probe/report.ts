import { type Distribution, type Finding, round, type Saving } from "./analysis.ts";
import type { HalfOpenFate } from "./lifetime.ts";
import type { Protocol } from "./protocol.ts";
import type { Recommendation } from "./recommendation.ts";

/** What a probe found: `probe --json` prints it as it is. Times are ms. */
export interface ProbeReport {
  /** As given, and the address that was probed. */
  readonly target: string;
  readonly address: string;
  readonly protocol: Protocol;
  /** What the distributions are of: the first byte of the answer to HEAD, or the handshake alone. */
  readonly timed: "first-byte" | "handshake";
  /** Of the answer to HEAD. */
  readonly status: number | null;
  /** From SYN to SYN-ACK, smoothed; null when no half-open was answered. */
  readonly rttMs: number | null;
  readonly direct: Distribution;
  readonly accelerated: Distribution;
  readonly saving: Saving | null;
  /** One half-open that was left alone; null when its SYN was not answered. */
  readonly halfOpen: {
    readonly watchedMs: number;
    /** SYN-ACKs that the server sent again by itself, after the first. */
    readonly repeatedAtMs: readonly number[];
    readonly fate: HalfOpenFate;
    readonly lifetimeMs: number | null;
  } | null;
  readonly cookies: boolean;
  readonly middlebox: readonly Finding[];
  readonly recommendation: Recommendation;
}

const PROTOCOLS: Readonly<Record<Protocol, string>> = {
  http: "speaks HTTP",
  tls: "speaks TLS, where only the handshake of TCP is timed",
  greets: "speaks first, and not HTTP: only the handshake is timed",
  other: "does not speak HTTP: only the handshake is timed",
};

/** Several lines for people, ending in a newline. Pure. */
export function formatReport(report: ProbeReport): string {
  const { target, address, protocol, status, rttMs, saving } = report;
  const where = target === address ? target : `${target} (${address})`;
  const answer = status === null ? "" : `, HEAD / is answered with ${status}`;
  const what = report.timed === "first-byte" ? "ms to the first byte" : "ms until a first byte can leave";
  const gain =
    saving === null ? "unknown" : `${round(saving.ms)} ms, ${saving.percent.toFixed(0)} % of the median`;
  const lines = [
    `${where} ${PROTOCOLS[protocol]}${answer}`,
    "",
    field("round trip", rttMs === null ? "unknown" : `${round(rttMs)} ms from SYN to SYN-ACK`),
    "",
    `${what.padEnd(32)}${["n", "p50", "p90", "p99"].map((title) => title.padStart(8)).join("")}`,
    row("  direct", report.direct),
    row("  accelerated", report.accelerated),
    "",
    field("saving", gain),
    field("half-opens", describeHalfOpen(report.halfOpen)),
    field("SYN cookies", report.cookies ? "yes" : "no"),
    ...fields(
      "middlebox",
      report.middlebox.length === 0 ? ["none seen"] : report.middlebox.map(({ detail }) => detail),
    ),
    ...fields("recommended", describeRecommendation(report.recommendation)),
  ];
  return `${lines.join("\n")}\n`;
}

function field(name: string, text: string): string {
  return `${name.padEnd(14)}${text}`;
}

function fields(name: string, texts: readonly string[]): string[] {
  return texts.map((text, index) => field(index === 0 ? name : "", text));
}

function row(name: string, { n, p50, p90, p99, failed }: Distribution): string {
  const cells = [String(n), ...[p50, p90, p99].map((ms) => (ms === null ? "-" : round(ms)))];
  const failures = Object.entries(failed).map(([outcome, count]) => `${count} ${outcome}`);
  const rest = failures.length === 0 ? "" : `  (${failures.join(", ")})`;
  return `${name.padEnd(32)}${cells.map((cell) => cell.padStart(8)).join("")}${rest}`;
}

function describeHalfOpen(halfOpen: ProbeReport["halfOpen"]): string {
  if (halfOpen === null) return "the SYN of one that was to be left alone was not answered";
  const { watchedMs, repeatedAtMs, fate, lifetimeMs } = halfOpen;
  const seconds = (ms: number) => `${(ms / 1e3).toFixed(1)} s`;
  const again =
    repeatedAtMs.length === 0
      ? "no SYN-ACK again by itself"
      : `SYN-ACK again after ${repeatedAtMs.map(seconds).join(", ")}`;
  const ends: Readonly<Record<HalfOpenFate, string>> = {
    held: `still held after ${seconds(watchedMs)}`,
    forgotten: `given up after about ${seconds(lifetimeMs ?? watchedMs)}`,
    cookies: "nothing is held",
    reset: "ended by a RST",
    silent: `no answer any more after ${seconds(watchedMs)}`,
  };
  return `${again}; ${ends[fate]}`;
}

function describeRecommendation(recommendation: Recommendation): string[] {
  const { accelerate, reason } = recommendation;
  if (!accelerate) return ["no acceleration for this upstream", reason];
  const { min, max } = recommendation.pool;
  return [`pool: { min: ${min}, max: ${max} }`, reason];
}
