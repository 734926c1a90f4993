// Goal: with an OpenTelemetry SDK a session becomes spans with its own times; without one nothing is made.
// Method: the SDK itself, with an exporter in memory.
import { trace } from "@opentelemetry/api";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { nowMs } from "../../native/clock.ts";
import type { SessionReport } from "../../proxy/engine/session-report.ts";
import { sessionTracer } from "../../proxy/tracing.ts";

const tracing = suite("tracing");
tracing("given no SDK, then nobody wants reports; given one, then spans with the session's times", () => {
  assert.is(sessionTracer(), undefined);
  const exporter = new InMemorySpanExporter();
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  );
  const beganMs = nowMs() - 1_000;
  const report: SessionReport = {
    ...{ listener: "web", upstream: "origin", server: "10.0.0.7:80", path: "direct", end: "fin" },
    ...{ beganMs, attachedMs: beganMs + 10, connectedMs: beganMs + 50, firstByteMs: beganMs + 90 },
    ...{ endedMs: beganMs + 100, bytesUpstream: 1, bytesDownstream: 2 },
  };
  sessionTracer()!(report);
  sessionTracer()!({ ...report, path: "failed", connectedMs: undefined, firstByteMs: undefined });
  const spans = exporter.getFinishedSpans();
  const told = spans.map(({ name, duration: [s, ns] }) => `${name} ${Math.round(s * 1e3 + ns / 1e6)} ms`);
  assert.equal(told, ["connect 40 ms", "first byte 80 ms", "session 100 ms", "session 100 ms"]);
  const [connect, , session, failed] = spans;
  assert.is(connect!.parentSpanContext?.spanId, session!.spanContext().spanId);
  assert.is(session!.attributes["accelproxy.path"], "direct");
  assert.not(failed!.spanContext().traceId === session!.spanContext().traceId);
  assert.is(failed!.status.code, 2);
});
tracing.run();
