/** Which route a request takes: the host that fits best, of its routes the longest path prefix. */
import type { RouteShare } from "./messages.ts";

export class Routes {
  /** Best first. */
  readonly #routes: readonly RouteShare[];

  /** The last one given is taken when no other fits. */
  constructor(routes: readonly RouteShare[]) {
    const other = routes.at(-1)!;
    const own = routes.slice(0, -1);
    own.sort((a, b) => compare(rank(b.host), rank(a.host)) || b.pathPrefix.length - a.pathPrefix.length);
    this.#routes = [...own, other];
  }

  find(host: string, path: string): RouteShare {
    const found = this.#routes.find(
      (route) => hostMatches(route.host, host) && pathMatches(route.pathPrefix, path),
    );
    return found ?? this.#routes.at(-1)!;
  }
}

/** Infinity less itself is no number. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}

/** A name before a suffix, a longer suffix before a shorter one, anything last. */
function rank(pattern: string): number {
  if (pattern === "*") return 0;
  return pattern.startsWith("*.") ? pattern.length : Number.POSITIVE_INFINITY;
}

/** Whether a pattern means a host: `example.com`, `*.example.com` for what is below it, `*`. */
export function hostMatches(pattern: string, host: string): boolean {
  if (pattern === "*" || pattern === host) return true;
  return pattern.startsWith("*.") && host.endsWith(pattern.slice(1)) && host.length > pattern.length - 1;
}

/** By whole parts: /api is the beginning of /api and /api/x, and not of /apis. */
function pathMatches(prefix: string, path: string): boolean {
  if (!path.startsWith(prefix)) return false;
  return prefix.endsWith("/") || path.length === prefix.length || path[prefix.length] === "/";
}
