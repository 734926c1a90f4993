import * as z from "zod";
import { parseAdminBind, parseBind, parseServerAddress } from "./addresses.ts";
import { type DurationRange, parseDuration } from "./durations.ts";
import { choice, field, flag, readName, readPath, readUser, readWholeNumber, wholeNumber } from "./fields.ts";
import {
  readFilePath,
  readHostHeader,
  readHostName,
  readHostPattern,
  readPathPrefix,
} from "./http-values.ts";
import { parseNetwork, parseTarget } from "./networks.ts";
import { good } from "./problems.ts";

// One shape per mapping of the file, with the keys of the public interface; defaults are written as a user
// would write them. The transforms behind the shapes put the unit into the name of every duration.

const hourMs = 3_600_000;
const connectionsMax = 1_000_000;

function duration(range: DurationRange) {
  return field((input) => parseDuration(input, range), "write a duration such as 250ms, 5s, 2m or 1h");
}

function name(example: string) {
  return field(readName, `add one, for example ${example}`);
}

/** What holds where no route says otherwise. */
export const routeDefaults = { timeoutMs: 60_000, retries: 0 } as const;

const acceptShape = {
  accept: choice(["none", "v1", "v2", "any"]).prefault("none"),
  from: z.array(field(parseNetwork, "add networks such as 10.0.0.0/8")).prefault([]),
};

const certificateShape = {
  cert: field(readFilePath, "add one, for example cert: /etc/accelproxy/site.pem"),
  key: field(readFilePath, "add one, for example key: /etc/accelproxy/site.key"),
  names: z.array(field(readHostPattern, "write a host name")).prefault([]),
};

const routeShape = {
  host: field(readHostPattern, "leave it out for every host").prefault("*"),
  pathPrefix: field(readPathPrefix, "leave it out for every path").prefault("/"),
  upstream: name("upstream: origin"),
  timeout: duration({ minMs: 1, maxMs: 24 * hourMs }).prefault(`${routeDefaults.timeoutMs / 1e3}s`),
  retries: wholeNumber({ min: 0, max: 10 }).prefault(routeDefaults.retries),
};

const route = z
  .strictObject(routeShape)
  .transform(({ timeout, ...rest }) => ({ ...rest, timeoutMs: timeout }));

const interceptShape = {
  method: choice(["tproxy", "redirect"]).prefault("tproxy"),
  traffic: choice(["forwarded", "local", "both"]).prefault("forwarded"),
};

const targets = z.array(field(parseTarget, "add networks such as 10.0.0.0/8 or 10.0.0.0/8:443")).prefault([]);

const listenerShape = {
  name: name("name: web"),
  bind: field(parseBind, "add one, for example bind: 127.0.0.1:8001"),
  mode: choice(["tcp", "http", "transparent"]).prefault("tcp"),
  upstream: name("upstream: origin"),
  takeAfter: duration({ minMs: 0, maxMs: 60_000 }).prefault("10ms"),
  idleTimeout: duration({ minMs: 1, maxMs: 168 * hourMs }).prefault("5m"),
  maxConnections: wholeNumber({ min: 1, max: connectionsMax }).prefault(10_000),
  proxyProtocol: z.strictObject(acceptShape).prefault({}),
  tls: z.array(z.strictObject(certificateShape)).prefault([]),
  routes: z.array(route).prefault([]),
  allow: targets,
  deny: targets,
  intercept: z.strictObject(interceptShape).prefault({}),
};

const listener = z.strictObject(listenerShape).transform(({ takeAfter, idleTimeout, ...rest }) => ({
  ...rest,
  takeAfterMs: takeAfter,
  idleTimeoutMs: idleTimeout,
}));

const serverShape = {
  address: field(parseServerAddress, "add one, for example address: 10.0.0.7:8080"),
  weight: wholeNumber({ min: 1, max: 256, zeroRemedy: "leave the server out to send it nothing" }).prefault(
    1,
  ),
  maxConnections: wholeNumber({ min: 0, max: connectionsMax }).prefault(0),
};

/** What a pool holds when the file does not say. */
export const poolDefaults = { min: 2, max: 32 } as const;

/** What all pools of learned destinations share when the file does not say. */
export const learnedDefaults = { maxHalfOpen: 1_024, maxSynRate: 2_500 } as const;

const poolShape = {
  min: wholeNumber({ min: 0, max: 4096 }).prefault(poolDefaults.min),
  max: wholeNumber({
    min: 1,
    max: 4096,
    zeroRemedy: `to hold no half-open connections at all write "acceleration: off"`,
  }).prefault(poolDefaults.max),
  maxSynRate: wholeNumber({ min: 1, max: 100_000 }).prefault(200),
  maxAge: duration({ minMs: 1000, maxMs: 24 * hourMs }).prefault("60s"),
};

const learnedShape = {
  destinations: wholeNumber({ min: 1, max: 4096 }).prefault(256),
  idleTimeout: duration({ minMs: 1000, maxMs: 24 * hourMs }).prefault("2m"),
  maxHalfOpen: wholeNumber({ min: 1, max: 16_384 }).prefault(learnedDefaults.maxHalfOpen),
  maxSynRate: wholeNumber({ min: 1, max: 100_000 }).prefault(learnedDefaults.maxSynRate),
};

const checksRange = { min: 1, max: 100 };
const healthShape = {
  interval: duration({ minMs: 100, maxMs: hourMs }).prefault("5s"),
  timeout: duration({ minMs: 1, maxMs: hourMs }).prefault("2s"),
  unhealthyAfter: wholeNumber(checksRange).prefault(3),
  healthyAfter: wholeNumber(checksRange).prefault(2),
  path: field<string | null>(
    (input) => (input === null ? good(null) : readPath(input)),
    "write a path such as /health",
  ).prefault(null),
};

const upstreamTlsShape = {
  servername: field(readHostName, "leave it out, or write a host name").nullable().default(null),
  ca: field(readFilePath, "leave it out, or write a file").nullable().default(null),
  rejectUnauthorized: flag().prefault(true),
};

const reuseRange = { minMs: 1, maxMs: hourMs };
const reuse = field<"never" | number>(
  (input) => (input === "never" ? good(input) : parseDuration(input, reuseRange)),
  "write never, or how long an idle connection is kept, for example 5s",
);

const upstreamShape = {
  servers: z.array(z.strictObject(serverShape)).prefault([]), // who needs some is in rules.ts
  balance: choice(["round-robin", "least-connections", "random"]).prefault("round-robin"),
  maxQueue: wholeNumber({ min: 0, max: connectionsMax }).prefault(1024),
  connectTimeout: duration({ minMs: 1, maxMs: hourMs }).prefault("5s"),
  proxyProtocol: choice(["none", "v1", "v2"]).prefault("none"),
  sourceAddress: choice(["proxy", "client"]).prefault("proxy"),
  tls: z.strictObject(upstreamTlsShape).nullable().default(null),
  reuse: reuse.prefault("never"),
  hostHeader: field(readHostHeader, "write keep, or the host to send").prefault("keep"),
  pool: z
    .strictObject(poolShape)
    .transform(({ maxAge, ...rest }) => ({ ...rest, maxAgeMs: maxAge }))
    .prefault({}),
  learned: z
    .strictObject(learnedShape)
    .transform(({ idleTimeout, ...rest }) => ({ ...rest, idleTimeoutMs: idleTimeout }))
    .prefault({}),
  health: z
    .strictObject(healthShape)
    .transform(({ interval, timeout, ...rest }) => ({ intervalMs: interval, timeoutMs: timeout, ...rest }))
    .nullable()
    .default(null),
};

const upstream = z
  .strictObject(upstreamShape)
  .transform(({ connectTimeout, ...rest }) => ({ ...rest, connectTimeoutMs: connectTimeout }));

const workersRange = { min: 1, max: 64, remedy: "write auto or a whole number from 1 to 64" };
const workers = field<"auto" | number>(
  (input) => (input === "auto" ? good(input) : readWholeNumber(input, workersRange)),
  workersRange.remedy,
);

const adminShape = {
  bind: field(parseAdminBind, "write unix:/run/accelproxy.sock").prefault("unix:/run/accelproxy.sock"),
  allowRemote: flag().prefault(false),
};

const logShape = {
  level: choice(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).prefault("info"),
};

const rootShape = {
  listeners: z.array(listener).min(1),
  upstreams: z
    .record(z.string(), upstream)
    .transform((byName) => Object.entries(byName).map(([name, rest]) => ({ name, ...rest }))),
  acceleration: choice(["required", "preferred", "off"]).prefault("required"),
  workers: workers.prefault("auto"),
  httpWorkers: wholeNumber({ min: 1, max: 64 }).prefault(1),
  driver: choice(["auto", "io_uring", "epoll"]).prefault("auto"),
  drainTimeout: duration({ minMs: 0, maxMs: 24 * hourMs }).prefault("30s"),
  user: field(readUser, "write the name of a user, for example accelproxy").prefault(null),
  admin: z.strictObject(adminShape).nullable().default(null),
  log: z.strictObject(logShape).prefault({}),
};

/** Checks the plain value of a file and turns it into a Config; rules between values are in rules.ts. */
export const configSchema = z
  .strictObject(rootShape)
  .transform(({ drainTimeout, ...rest }) => ({ ...rest, drainTimeoutMs: drainTimeout }));

/** The keys of every mapping in the file, by place: `[]` stands for any entry, `*` for any name. */
export const keysByPlace: ReadonlyMap<string, readonly string[]> = new Map(
  Object.entries({
    "": rootShape,
    "listeners[]": listenerShape,
    "listeners[].proxyProtocol": acceptShape,
    "listeners[].tls[]": certificateShape,
    "listeners[].routes[]": routeShape,
    "listeners[].intercept": interceptShape,
    "upstreams.*": upstreamShape,
    "upstreams.*.servers[]": serverShape,
    "upstreams.*.tls": upstreamTlsShape,
    "upstreams.*.pool": poolShape,
    "upstreams.*.learned": learnedShape,
    "upstreams.*.health": healthShape,
    admin: adminShape,
    log: logShape,
  }).map(([place, shape]) => [place, Object.keys(shape)]),
);

/** Readonly all the way down. */
type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** An effective configuration: frozen, every default filled in, durations in milliseconds. */
export type Config = DeepReadonly<z.infer<typeof configSchema>>;

/** One entry of `listeners`. */
export type Listener = Config["listeners"][number];

/** One entry of `upstreams` with its name. */
export type Upstream = Config["upstreams"][number];

/** How the servers of an upstream are checked. */
export type HealthConfig = NonNullable<Upstream["health"]>;
