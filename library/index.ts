/** The library: connections that are accelerated where possible, for programs that do not want a proxy. */
export { type Connector, type ConnectorOptions, connector } from "./connector.ts";
export { createPool, type Pool, type PoolOptions } from "./pool.ts";
export type { PoolStats } from "./server.ts";
export type { PoolSettings } from "./settings.ts";
export { retryUndelivered, UndeliveredError } from "./undelivered.ts";
