/**
 * OpenTelemetry, where the program uses it: @opentelemetry/api is an optional peer, looked for once, and only when the
 * program has registered something with it already. Without it tracing is one comparison a connection.
 */
import { createRequire } from "node:module";
import type { Tracer } from "@opentelemetry/api";

type Api = typeof import("@opentelemetry/api");

/** Where every copy of the API, of major version 1, keeps what a program registered (its internal/global-utils). */
const REGISTERED = Symbol.for("opentelemetry.js.api.1");
const NAME = "accelproxy";

let api: Api | undefined | null;

/** The API, when there is a program that traces: an SDK is registered. */
export function tracing(): { readonly api: Api; readonly tracer: Tracer } | undefined {
  if (api === null || !(REGISTERED in globalThis)) return undefined;
  api ??= load();
  const provider = api?.trace.getTracerProvider();
  if (!api || !(provider instanceof api.ProxyTracerProvider)) return undefined;
  const tracer = provider.getDelegateTracer(NAME);
  return tracer && { api, tracer };
}

function load(): Api | null {
  try {
    return createRequire(import.meta.url)("@opentelemetry/api") as Api;
  } catch {
    return null; // a program that has its own copy where we cannot see it
  }
}
