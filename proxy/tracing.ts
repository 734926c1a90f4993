/** Spans of sessions, in a proxy that was started with an OpenTelemetry SDK. */

import { tracing } from "../library/tracing.ts";
import { nowMs } from "../native/clock.ts";
import type { SessionReport } from "./engine/session-report.ts";

/**
 * Makes spans of reports: one for the session, and within it one to the connection and one to the first byte. A TCP
 * session carries no trace context, so that each is a trace of its own. Undefined when no SDK is registered.
 */
export function sessionTracer(): ((report: SessionReport) => void) | undefined {
  const found = tracing();
  if (found === undefined) return undefined;
  const { api, tracer } = found;
  const sinceEpochMs = Date.now() - nowMs();
  const at = (ms: number) => sinceEpochMs + ms;
  return (report) => {
    const { beganMs, attachedMs, connectedMs, firstByteMs, endedMs } = report;
    const session = tracer.startSpan(
      "session",
      { kind: api.SpanKind.SERVER, startTime: at(beganMs), attributes: attributes(report), root: true },
      api.ROOT_CONTEXT,
    );
    const within = api.trace.setSpan(api.ROOT_CONTEXT, session);
    const part = (name: string, fromMs: number | undefined, toMs: number | undefined) => {
      if (fromMs === undefined || toMs === undefined) return;
      const options = { kind: api.SpanKind.CLIENT, startTime: at(fromMs) };
      tracer.startSpan(name, options, within).end(at(toMs));
    };
    part("connect", attachedMs, connectedMs);
    part("first byte", attachedMs, firstByteMs);
    if (report.path === "failed") session.setStatus({ code: api.SpanStatusCode.ERROR });
    session.end(at(endedMs));
  };
}

function attributes({
  listener,
  upstream,
  server,
  path,
  end,
  bytesUpstream,
  bytesDownstream,
}: SessionReport) {
  return {
    "accelproxy.listener": listener,
    "accelproxy.upstream": upstream,
    "accelproxy.path": path,
    "accelproxy.end": end,
    "accelproxy.bytes.upstream": bytesUpstream,
    "accelproxy.bytes.downstream": bytesDownstream,
    ...(server !== undefined && { "network.peer.address": server }),
  };
}
