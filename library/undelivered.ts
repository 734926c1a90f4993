/** Requests that provably never reached their server, and the undici interceptor that sends them again. */
import type { Dispatcher } from "undici";

/**
 * The connection never existed at the server: it had forgotten the half-open, and nothing of what was written reached
 * an application. Whatever was under way may be sent again, also what is not idempotent. `cause` is the reset.
 */
export class UndeliveredError extends Error {
  override readonly name = "UndeliveredError";
  readonly code = "ACCEL_UNDELIVERED";

  /** `server` as text, e.g. "10.0.0.7:8080". */
  constructor(server: string, cause: unknown) {
    super(`${server} had forgotten this connection; nothing was delivered, send it again`, { cause });
  }
}

/**
 * How often a request goes out again. Once is enough, since for a second after it the server gets ordinary
 * connections; more serve requests on connections made before.
 */
const TRIES_MAX = 3;

/**
 * An interceptor for undici: `new Agent({ connect: connector() }).compose(retryUndelivered())`. A request that failed
 * with ACCEL_UNDELIVERED is dispatched again, whatever its method; one whose body is a stream or an iterator, which
 * cannot be read twice, fails with that error.
 */
export function retryUndelivered(): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) => {
    if (!isRepeatable(options.body)) return dispatch(options, handler);
    return dispatch(options, new RetryHandler(handler, (again) => dispatch(options, again)));
  };
}

function isRepeatable(body: unknown): boolean {
  return (
    body === undefined ||
    body === null ||
    typeof body === "string" ||
    ArrayBuffer.isView(body) ||
    body instanceof ArrayBuffer ||
    body instanceof Blob ||
    body instanceof FormData
  );
}

class RetryHandler implements Dispatcher.DispatchHandler {
  readonly #handler: Dispatcher.DispatchHandler;
  readonly #dispatch: (handler: Dispatcher.DispatchHandler) => void;
  #triesLeft = TRIES_MAX;

  constructor(handler: Dispatcher.DispatchHandler, dispatch: (handler: Dispatcher.DispatchHandler) => void) {
    this.#handler = handler;
    this.#dispatch = dispatch;
  }

  onRequestStart(...args: Parameters<NonNullable<Dispatcher.DispatchHandler["onRequestStart"]>>): void {
    this.#handler.onRequestStart?.(...args);
  }

  onRequestUpgrade(...args: Parameters<NonNullable<Dispatcher.DispatchHandler["onRequestUpgrade"]>>): void {
    this.#handler.onRequestUpgrade?.(...args);
  }

  onResponseStart(...args: Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseStart"]>>): void {
    this.#handler.onResponseStart?.(...args);
  }

  onResponseData(...args: Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseData"]>>): void {
    this.#handler.onResponseData?.(...args);
  }

  onResponseEnd(...args: Parameters<NonNullable<Dispatcher.DispatchHandler["onResponseEnd"]>>): void {
    this.#handler.onResponseEnd?.(...args);
  }

  onResponseError(controller: Dispatcher.DispatchController, error: Error): void {
    const isUndelivered = "code" in error && error.code === "ACCEL_UNDELIVERED";
    if (!isUndelivered || this.#triesLeft === 0) {
      this.#handler.onResponseError?.(controller, error);
      return;
    }
    this.#triesLeft -= 1;
    this.#dispatch(this);
  }
}
