import { stringify } from "yaml";
import { formatAdminBind, formatHostPort } from "./addresses.ts";
import { formatDuration } from "./durations.ts";
import { formatNetwork, formatTarget } from "./networks.ts";
import type { Config, HealthConfig, Listener, Upstream } from "./schema.ts";

/**
 * The effective configuration as YAML: every key of the public interface with its value, defaults included.
 * parseConfig() of the result gives an equal Config.
 */
export function formatConfig(config: Config): string {
  const { acceleration, workers, httpWorkers, driver, user, admin, log } = config;
  const file = {
    listeners: config.listeners.map(listenerKeys),
    upstreams: Object.fromEntries(
      config.upstreams.map((upstream) => [upstream.name, upstreamKeys(upstream)]),
    ),
    acceleration,
    workers,
    httpWorkers,
    driver,
    drainTimeout: formatDuration(config.drainTimeoutMs),
    user,
    admin: admin === null ? null : { ...admin, bind: formatAdminBind(admin.bind) },
    log,
  };
  return stringify(file, { lineWidth: 0, aliasDuplicateObjects: false });
}

function listenerKeys(listener: Listener) {
  const { name, bind, mode, upstream, takeAfterMs, idleTimeoutMs, routes, ...rest } = listener;
  const { maxConnections, proxyProtocol, tls, allow, deny, ...others } = rest;
  return {
    name,
    bind: formatHostPort(bind),
    mode,
    upstream,
    takeAfter: formatDuration(takeAfterMs),
    idleTimeout: formatDuration(idleTimeoutMs),
    maxConnections,
    proxyProtocol: { ...proxyProtocol, from: proxyProtocol.from.map(formatNetwork) },
    tls,
    routes: routes.map(({ host, pathPrefix, upstream, timeoutMs, retries }) => ({
      host,
      pathPrefix,
      upstream,
      timeout: formatDuration(timeoutMs),
      retries,
    })),
    allow: allow.map(formatTarget),
    deny: deny.map(formatTarget),
    ...others,
  };
}

function upstreamKeys(upstream: Upstream) {
  const { pool, learned, proxyProtocol, sourceAddress, tls, reuse, hostHeader, health } = upstream;
  return {
    servers: upstream.servers.map(({ address, ...rest }) => ({ address: formatHostPort(address), ...rest })),
    balance: upstream.balance,
    maxQueue: upstream.maxQueue,
    connectTimeout: formatDuration(upstream.connectTimeoutMs),
    proxyProtocol,
    sourceAddress,
    tls,
    reuse: reuse === "never" ? reuse : formatDuration(reuse),
    hostHeader,
    pool: {
      min: pool.min,
      max: pool.max,
      maxSynRate: pool.maxSynRate,
      maxAge: formatDuration(pool.maxAgeMs),
    },
    learned: {
      destinations: learned.destinations,
      idleTimeout: formatDuration(learned.idleTimeoutMs),
      maxHalfOpen: learned.maxHalfOpen,
      maxSynRate: learned.maxSynRate,
    },
    health: health && healthKeys(health),
  };
}

function healthKeys({ intervalMs, timeoutMs, ...rest }: HealthConfig) {
  return { interval: formatDuration(intervalMs), timeout: formatDuration(timeoutMs), ...rest };
}
