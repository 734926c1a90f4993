/**
 * A probe from start to end: who is there, then in parallel one half-open left alone and, in turns, ordinary
 * and accelerated connections. Nothing of it is left when it ends.
 */
import { formatHostPort } from "../../config/addresses.ts";
import { type Endpoint, formatEndpoint } from "../../native/address.ts";
import { AccelproxyError } from "../errors.ts";
import { NameWatcher } from "../names.ts";
import { distribution, findings, saving } from "./analysis.ts";
import {
  type Exchange,
  exchangeAccelerated,
  exchangeDirectly,
  type Outcome,
  type Request,
} from "./exchange.ts";
import { HalfOpens } from "./half-opens.ts";
import { readLifetime, type Watched } from "./lifetime.ts";
import * as limits from "./limits.ts";
import { Observer } from "./observer.ts";
import { Pacer } from "./pacing.ts";
import { headRequest, meet, type Protocol, statusOf } from "./protocol.ts";
import { recommend } from "./recommendation.ts";
import type { ProbeReport } from "./report.ts";
import { Witness } from "./witness.ts";

export interface ProbeTarget {
  /** A name or an IP address without brackets. */
  readonly host: string;
  readonly port: number;
}

export interface ProbeOptions {
  /** Pairs of connections. */
  readonly count: number;
  /** Watches the half-open to its end, up to WATCH_LIFETIME. */
  readonly lifetime: boolean;
  /** Ends the probe early. */
  readonly stop: AbortSignal;
  /** Told what is going on, one line each. */
  readonly onProgress: (line: string) => void;
}

interface Met {
  readonly server: Endpoint;
  readonly protocol: Protocol;
  readonly status: number | undefined;
}

const silent = { info: () => {}, warn: () => {} };

/**
 * Probes a server. Rejects with AccelproxyError ACCEL_PROBE_NAME for a name without addresses,
 * ACCEL_PROBE_UNREACHABLE when no ordinary connection succeeds; with the reason of `stop` when it aborts; with
 * SyscallError EPERM without the capabilities.
 */
export async function probe(target: ProbeTarget, options: ProbeOptions): Promise<ProbeReport> {
  const pacer = new Pacer();
  const met = await meetAny(target, pacer, options);
  using instruments = new Instruments(met.server);
  const watchMs = options.lifetime ? limits.WATCH_LIFETIME : limits.WATCH_SHORT;
  // Whichever part fails ends the other, so that nothing is closed under it.
  const failure = new AbortController();
  const stop = AbortSignal.any([options.stop, failure.signal]);
  const guard = <T>(part: Promise<T>): Promise<T> =>
    part.catch((error: unknown) => {
      failure.abort(error);
      throw error;
    });
  const parts = [
    guard(measure(met, instruments.halfOpens, target, pacer, { ...options, stop })),
    guard(instruments.witness.watch(pacer, watchMs, stop)),
  ] as const;
  await Promise.allSettled(parts);
  const [samples, watched] = await Promise.all(parts);
  if (samples.direct.every(({ ms }) => ms === undefined)) {
    throw unreachable(target, met.server, samples.direct.at(-1)?.outcome ?? "unreachable");
  }
  return report(target, met, samples, watched, instruments);
}

/** What a probe has open besides the connections it times. Closing gives up every half-open. */
class Instruments implements Disposable {
  readonly observer: Observer;
  readonly halfOpens: HalfOpens;
  readonly witness: Witness;
  readonly #timer: NodeJS.Timeout;

  constructor(server: Endpoint) {
    this.observer = new Observer(server);
    this.halfOpens = new HalfOpens(server);
    this.witness = new Witness(server, this.observer);
    this.#timer = setInterval(() => {
      this.observer.step();
      this.halfOpens.step();
    }, limits.STEP);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.witness.close();
    this.halfOpens.close();
    this.observer.close();
  }
}

/** The first address that accepts a connection, and what it speaks. */
async function meetAny(target: ProbeTarget, pacer: Pacer, { stop, onProgress }: ProbeOptions): Promise<Met> {
  const name = formatHostPort(target);
  const names = new NameWatcher({ log: silent });
  const addresses = await names.first(target.host);
  names.close();
  if (addresses.length === 0) {
    throw new AccelproxyError(
      "ACCEL_PROBE_NAME",
      `${name}: the name has no address (check its spelling, /etc/hosts and DNS)`,
    );
  }
  let failure: AccelproxyError | undefined;
  for (const address of addresses.slice(0, limits.ADDRESSES_MAX)) {
    const server = { address, port: target.port };
    onProgress(`connecting to ${formatEndpoint(server)}`);
    await pacer.turn(stop);
    const { exchange, protocol } = await meet(server, headRequest(target), stop);
    if (!NO_CONNECTION.includes(exchange.outcome))
      return { server, protocol, status: statusOf(exchange.head) };
    failure = unreachable(target, server, exchange.outcome);
  }
  throw failure ?? new Error("no address was tried");
}

/** Outcomes of an ordinary connection that never was one. */
const NO_CONNECTION: readonly Outcome[] = ["refused", "unreachable"];

interface Samples {
  readonly direct: readonly Exchange[];
  readonly accelerated: readonly Exchange[];
}

async function measure(
  { protocol, server }: Met,
  { taker }: HalfOpens,
  target: ProbeTarget,
  pacer: Pacer,
  { count, stop, onProgress }: ProbeOptions,
): Promise<Samples> {
  const request: Request = { text: protocol === "http" ? headRequest(target) : undefined };
  const direct: Exchange[] = [];
  const accelerated: Exchange[] = [];
  while (direct.length < count && !isHopeless(direct) && !isHopeless(accelerated)) {
    await pacer.turn(stop);
    onProgress(`pair ${direct.length + 1} of ${count}`);
    direct.push(await exchangeDirectly(server, request, stop));
    accelerated.push(await exchangeAccelerated(taker, request, stop));
  }
  onProgress("watching what becomes of a half-open connection");
  return { direct, accelerated };
}

/** So many in a row that came to nothing. */
function isHopeless(exchanges: readonly Exchange[]): boolean {
  const last = exchanges.slice(-limits.FAILURES_MAX);
  return last.length === limits.FAILURES_MAX && last.every(({ ms }) => ms === undefined);
}

function report(
  target: ProbeTarget,
  { server, protocol, status }: Met,
  samples: Samples,
  watched: Watched | undefined,
  { observer, halfOpens }: Instruments,
): ProbeReport {
  const { rttMs } = halfOpens;
  const [direct, accelerated] = [distribution(samples.direct), distribution(samples.accelerated)];
  const gain = saving(direct, accelerated);
  const life = watched && readLifetime(watched);
  const cookies = halfOpens.hasCookies || life?.fate === "cookies";
  const middlebox = findings({ ...samples, rttMs, traits: observer.traits });
  const handshakeOnly = protocol !== "http";
  return {
    target: formatHostPort(target),
    address: formatEndpoint(server),
    protocol,
    timed: handshakeOnly ? "handshake" : "first-byte",
    status: status ?? null,
    rttMs: rttMs > 0 ? rttMs : null,
    direct,
    accelerated,
    saving: gain,
    halfOpen:
      watched && life
        ? {
            watchedMs: watched.watchedMs,
            repeatedAtMs: watched.repeatedAtMs,
            fate: life.fate,
            lifetimeMs: life.lifetimeMs ?? null,
          }
        : null,
    cookies,
    middlebox,
    recommendation: recommend({ rttMs, saving: gain, handshakeOnly, cookies, findings: middlebox }),
  };
}

const REASONS: Readonly<Partial<Record<Outcome, string>>> = {
  refused: "refuses connections (is the server running, and on this port?)",
  unreachable: `gives no connection within ${limits.CONNECT_MAX / 1e3} s (check the address, routes and firewalls)`,
};

function unreachable(target: ProbeTarget, server: Endpoint, outcome: Outcome): AccelproxyError {
  const [name, address] = [formatHostPort(target), formatEndpoint(server)];
  const where = name === address ? name : `${name} (${address})`;
  const reason = REASONS[outcome] ?? `answers no request: ${outcome} (is the server healthy?)`;
  return new AccelproxyError("ACCEL_PROBE_UNREACHABLE", `${where} ${reason}`);
}
