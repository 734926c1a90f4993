/** What is told of a session when it has ended: a line of the log at debug, and spans where somebody traces. */
import type { Logger } from "../../pool/logger.ts";
import { TokenBucket } from "../../pool/token-bucket.ts";
import type { ConnectionPath } from "../status.ts";
import type { ListenerState } from "./engine.ts";
import { TRACED_PER_SECOND_MAX } from "./limits.ts";
import type { Relay } from "./relay.ts";
import type { Server } from "./upstream.ts";

/** Times are ms of clock.nowMs(); undefined where a session did not get that far, or was another process's then. */
export interface SessionReport {
  readonly listener: string;
  readonly upstream: string;
  readonly server: string | undefined;
  readonly path: ConnectionPath;
  /** How the session ended its sockets. */
  readonly end: "fin" | "reset";
  readonly beganMs: number;
  /** It went to the upstream: at the client's first bytes, or after takeAfter. */
  readonly attachedMs: number | undefined;
  /** There was a connection: at once from the pool, else after an ordinary connect. */
  readonly connectedMs: number | undefined;
  readonly firstByteMs: number | undefined;
  readonly endedMs: number;
  readonly bytesUpstream: number;
  readonly bytesDownstream: number;
}

/** When a session got how far; 0: it did not, or in another process. */
export class SessionTimes {
  beganMs = 0;
  attachedMs = 0;
  connectedMs = 0;
  firstByteMs = 0;

  begin(nowMs: number): void {
    this.beganMs = nowMs;
    this.attachedMs = 0;
    this.connectedMs = 0;
    this.firstByteMs = 0;
  }

  /** What there is to tell of a session that has ended. */
  report(
    { share, upstream }: ListenerState,
    server: Server | undefined,
    { bytesUpstream, bytesDownstream }: Relay,
    ending: Pick<SessionReport, "path" | "end" | "endedMs">,
  ): SessionReport {
    return {
      ...{ listener: share.name, upstream: upstream.name, server: server?.name },
      beganMs: this.beganMs,
      attachedMs: this.attachedMs || undefined,
      connectedMs: this.connectedMs || undefined,
      firstByteMs: this.firstByteMs || undefined,
      ...{ bytesUpstream, bytesDownstream },
      ...ending,
    };
  }
}

/** Who wants reports, or undefined when nobody does: sessions then make none. */
export function reporter(
  log: Logger,
  logLevel: string,
  trace: ((report: SessionReport) => void) | undefined,
): ((report: SessionReport) => void) | undefined {
  const isLogged = logLevel === "debug" || logLevel === "trace";
  if (!isLogged && trace === undefined) return undefined;
  const rate = new TokenBucket(TRACED_PER_SECOND_MAX, performance.now());
  return (report) => {
    if (isLogged) log.debug(facts(report), "session ended");
    if (trace !== undefined && rate.tryTake(performance.now())) trace(report);
  };
}

function facts({ beganMs, attachedMs, connectedMs, firstByteMs, endedMs, ...report }: SessionReport): object {
  const since = (fromMs: number | undefined, toMs: number | undefined) =>
    fromMs === undefined || toMs === undefined ? undefined : Math.round((toMs - fromMs) * 1e3) / 1e3;
  return {
    ...report,
    connectMs: since(attachedMs, connectedMs),
    firstByteMs: since(attachedMs, firstByteMs),
    totalMs: since(beganMs, endedMs),
  };
}
