import {
  formatAdminBind,
  formatHostPort,
  isLoopback,
  parseAdminBind,
  parseBind,
  parseServerAddress,
} from "./addresses.ts";
import type { Path } from "./document.ts";
import { explainFault, type Finding, serversExample } from "./explain.ts";
import { readName } from "./fields.ts";
import { nearest, show } from "./problems.ts";
import { learnedDefaults, poolDefaults } from "./schema.ts";

// Rules between values. They look at the plain value of the file, not at the result of the schema, so that
// they speak up in the same run as the schema does; a value that the schema refuses is passed over here.

type Mapping = Readonly<Record<string, unknown>>;

/** What contradicts itself in the value of a file, in no particular order. */
export function checkRules(value: unknown): Finding[] {
  const root = asMapping(value);
  const upstreams = asMapping(root.upstreams);
  return [
    ...checkListenerNames(asList(root.listeners)),
    ...checkBinds(root),
    ...asList(root.listeners).flatMap((listener, index) => checkHeaders(index, asMapping(listener))),
    ...(root.upstreams === upstreams ? checkReferences(asList(root.listeners), upstreams) : []),
    ...checkModes(asList(root.listeners), upstreams),
    ...Object.entries(upstreams).flatMap(([name, upstream]) => checkUpstream(name, asMapping(upstream))),
    ...Object.entries(upstreams).flatMap(([name, upstream]) =>
      checkServers(name, upstream, asList(root.listeners)),
    ),
    ...checkAdmin(asMapping(root.admin)),
  ];
}

function checkListenerNames(listeners: readonly unknown[]): Finding[] {
  const names = listeners.map((listener) => asMapping(listener).name);
  return findRepeats(names.map((name) => (typeof name === "string" ? name : undefined))).map(
    ({ index, first }) => ({
      path: ["listeners", index, "name"],
      part: "use",
      problem: `name: ${show(names[index])} is already the name of listeners[${first}]`,
      remedy: "give every listener a name of its own",
    }),
  );
}

function checkBinds(root: Mapping): Finding[] {
  const listeners = asList(root.listeners);
  const parsed = listeners.map((listener) => parseBind(asMapping(listener).bind));
  const binds = parsed.map((bind) =>
    bind.ok && bind.value.port !== 0 ? formatHostPort(bind.value) : undefined,
  );
  const findings = findRepeats(binds).map(
    ({ index, first }): Finding => ({
      path: ["listeners", index, "bind"],
      part: "use",
      problem: `bind: ${show(binds[index])} is already bound by listeners[${first}]`,
      remedy: "choose another port, or port 0 to have one picked",
    }),
  );
  const admin = parseAdminBind(asMapping(root.admin).bind);
  const taken = admin.ok ? binds.indexOf(formatAdminBind(admin.value)) : -1;
  if (taken < 0) return findings;
  const problem = `bind: ${show(binds[taken])} is already bound by listeners[${taken}]`;
  return [...findings, { path: ["admin", "bind"], part: "value", problem, remedy: "choose another port" }];
}

/** A header is believed only of those who are named. */
function checkHeaders(index: number, listener: Mapping): Finding[] {
  const { accept, from = [] } = asMapping(listener.proxyProtocol);
  if (accept !== "v1" && accept !== "v2" && accept !== "any") return [];
  if (listener.mode === "http") {
    const problem = `accept: ${accept} is not supported by http listeners yet`;
    const path: Path = ["listeners", index, "proxyProtocol", "accept"];
    return [{ path, part: "value", problem, remedy: "leave it out, or put a listener of mode tcp there" }];
  }
  if (!Array.isArray(from) || from.length > 0) return [];
  return [
    {
      path: ["listeners", index, "proxyProtocol", "accept"],
      part: "value",
      problem: `accept: ${accept} is of no use, since nobody may send a header`,
      remedy: "add from: with the networks of those who send it, for example from: [10.0.0.0/8]",
    },
  ];
}

// Comparing every unknown name with every upstream would take minutes in a file that has thousands of both.
const suggestionsMax = 256;

function checkReferences(listeners: readonly unknown[], upstreams: Mapping): Finding[] {
  return listeners.flatMap((listener, index): Finding[] => {
    const { upstream, routes } = asMapping(listener);
    const path = ["listeners", index];
    return [
      ...checkReference([...path, "upstream"], upstream, upstreams),
      ...asList(routes).flatMap((route, at) =>
        checkReference([...path, "routes", at, "upstream"], asMapping(route).upstream, upstreams),
      ),
    ];
  });
}

function checkReference(path: Path, name: unknown, upstreams: Mapping): Finding[] {
  if (typeof name !== "string" || !readName(name).ok || Object.hasOwn(upstreams, name)) return [];
  const names = Object.keys(upstreams);
  const near = nearest(name, names.slice(0, suggestionsMax));
  const list =
    names.length === 0 ? `add "${name}" to upstreams` : `the upstreams are ${names.slice(0, 8).join(", ")}`;
  const problem = `upstream: ${show(name)} does not exist`;
  return [{ path, part: "value", problem, remedy: near === undefined ? list : `did you mean ${near}?` }];
}

/** Keys that mean nothing in the mode of a listener, or of all that use an upstream. */
function checkModes(listeners: readonly unknown[], upstreams: Mapping): Finding[] {
  const plain = listeners.map(asMapping).filter(({ mode = "tcp" }) => mode === "tcp");
  const http = listeners.map(asMapping).filter(({ mode }) => mode === "http");
  return [
    ...listeners.flatMap((listener, index) => checkListenerMode(["listeners", index], asMapping(listener))),
    ...Object.entries(upstreams).flatMap(([name, upstream]) => {
      const { tls = null, reuse = "never", hostHeader = "keep", proxyProtocol } = asMapping(upstream);
      const path: Path = ["upstreams", name];
      const findings: Finding[] = [];
      const passedOn = plain.find(({ upstream: used }) => used === name);
      if (tls !== null && passedOn) {
        const problem = `tls: the listener ${show(passedOn.name)} passes bytes on as they are`;
        const remedy = "write mode: http there, or give it an upstream without tls";
        findings.push({ path: [...path, "tls"], part: "key", problem, remedy });
      }
      const isHttp = http.some((listener) => usesUpstream(listener, name));
      if (isHttp && (proxyProtocol === "v1" || proxyProtocol === "v2")) {
        const problem = `proxyProtocol: ${proxyProtocol} is not sent for requests of http listeners`;
        const remedy = "leave it out: servers learn of the client from X-Forwarded-For";
        findings.push({ path: [...path, "proxyProtocol"], part: "key", problem, remedy });
      }
      findings.push(...checkSourceAddress(path, asMapping(upstream), listeners));
      if (!passedOn || isHttp) return findings;
      for (const [key, isGiven] of [
        ["reuse", reuse !== "never"],
        ["hostHeader", hostHeader !== "keep"],
      ] as const) {
        const problem = `${key}: no http listener uses this upstream`;
        if (isGiven) findings.push({ path: [...path, key], part: "key", problem, remedy: "leave it out" });
      }
      return findings;
    }),
  ];
}

/** Connections have one client each, whom this process sees. */
function checkSourceAddress(path: Path, upstream: Mapping, listeners: readonly unknown[]): Finding[] {
  if (upstream.sourceAddress !== "client") return [];
  const name = path[path.length - 1];
  const users = listeners.map(asMapping).filter((listener) => usesUpstream(listener, String(name)));
  const at = { path: [...path, "sourceAddress"], part: "key" } as const;
  const http = users.find(({ mode }) => mode === "http");
  const behind = users.find(({ proxyProtocol }) => {
    const { accept = "none" } = asMapping(proxyProtocol);
    return accept !== "none";
  });
  const findings: Finding[] = [];
  if (http) {
    const problem = `sourceAddress: the http listener ${show(http.name)} has connections to servers that are no client's own`;
    const remedy = "leave it out: servers learn of the client from X-Forwarded-For";
    findings.push({ ...at, problem, remedy });
  }
  if (behind) {
    const problem = `sourceAddress: the clients of ${show(behind.name)} are proxies, whose PROXY header has another address`;
    const remedy = "leave it out, and tell servers by proxyProtocol: v2";
    findings.push({ ...at, problem, remedy });
  }
  return findings;
}

function checkListenerMode(path: Path, listener: Mapping): Finding[] {
  const { mode = "tcp" } = listener;
  const findings: Finding[] = [];
  for (const key of ["tls", "routes"]) {
    if (mode !== "tcp" || asList(listener[key]).length === 0) continue;
    const problem = `${key}: this listener is mode: tcp, which passes bytes on as they are`;
    findings.push({ path: [...path, key], part: "key", problem, remedy: "add mode: http, or leave it out" });
  }
  const seen = asList(listener.routes).map((route) => {
    const { host = "*", pathPrefix = "/" } = asMapping(route);
    return typeof host === "string" && typeof pathPrefix === "string"
      ? `${host.toLowerCase()}${pathPrefix}`
      : undefined;
  });
  for (const { index, first } of findRepeats(seen)) {
    const problem = `routes[${index}]: the same host and pathPrefix as routes[${first}], so that it is never used`;
    findings.push({ path: [...path, "routes", index], part: "use", problem, remedy: "take one of them out" });
  }
  return findings;
}

function usesUpstream(listener: Mapping, name: string): boolean {
  return [listener, ...asList(listener.routes)].some((user) => asMapping(user).upstream === name);
}

function checkUpstream(name: string, upstream: Mapping): Finding[] {
  const path: Path = ["upstreams", name];
  const findings: Finding[] = [];
  const read = readName(name);
  if (!read.ok) findings.push({ ...explainFault(read.fault, path), part: "key", problem: nameProblem(name) });
  const servers = asList(upstream.servers).map((server) => parseServerAddress(asMapping(server).address));
  const addresses = servers.map((server) =>
    server.ok ? formatHostPort(server.value).toLowerCase() : undefined,
  );
  for (const { index, first } of findRepeats(addresses)) {
    findings.push({
      path: [...path, "servers", index, "address"],
      part: "use",
      problem: `address: ${show(addresses[index])} is already the address of servers[${first}]`,
      remedy: "list every server once, and set its weight to send it more",
    });
  }
  return [
    ...findings,
    ...checkPool([...path, "pool"], asMapping(upstream.pool)),
    ...checkLearned([...path, "learned"], asMapping(upstream.learned)),
  ];
}

function nameProblem(name: string): string {
  return `upstreams: ${show(name)} is not a name`;
}

function checkPool(path: Path, pool: Mapping): Finding[] {
  const { min = poolDefaults.min, max = poolDefaults.max } = pool;
  if (!Number.isInteger(min) || !Number.isInteger(max)) return [];
  if (Number(max) < 1 || Number(min) <= Number(max)) return [];
  if (pool.min === undefined) {
    const problem = `max: ${String(max)} is less than min, which is ${poolDefaults.min} unless given`;
    return [
      { path: [...path, "max"], part: "value", problem, remedy: `add min: ${String(max)}, or raise max` },
    ];
  }
  const given = pool.max === undefined ? `${poolDefaults.max} unless given` : String(max);
  const problem = `min: ${String(min)} is more than max, which is ${given}`;
  return [{ path: [...path, "min"], part: "value", problem, remedy: "lower min or raise max" }];
}

/** Each half-open is kept by 1.25 SYNs a second, and new ones need some too. */
function checkLearned(path: Path, learned: Mapping): Finding[] {
  const { maxHalfOpen, maxSynRate } = { ...learnedDefaults, ...learned };
  if (!Number.isInteger(maxHalfOpen) || !Number.isInteger(maxSynRate)) return [];
  if (Number(maxSynRate) >= 2 * Number(maxHalfOpen)) return [];
  const problem = `maxSynRate: ${String(maxSynRate)} SYNs a second cannot keep ${String(maxHalfOpen)} half-open connections`;
  const key = learned.maxSynRate === undefined ? "maxHalfOpen" : "maxSynRate";
  const remedy = "maxSynRate has to be twice maxHalfOpen: raise the one or lower the other";
  return [{ path: [...path, key], part: "value", problem, remedy }];
}

/** Servers are given, or those that clients ask for: never both. */
function checkServers(name: string, upstream: unknown, listeners: readonly unknown[]): Finding[] {
  if (asMapping(upstream) !== upstream) return [];
  const path: Path = ["upstreams", name];
  const { servers } = asMapping(upstream);
  const modes = listeners.map(asMapping).filter((listener) => listener.upstream === name);
  const isLearned = modes.some(({ mode }) => mode === "transparent");
  if (isLearned && modes.some(({ mode }) => mode !== "transparent")) {
    const problem = `upstreams.${name}: transparent listeners share it with others`;
    return [{ path, part: "key", problem, remedy: "give the transparent ones an upstream of their own" }];
  }
  if (isLearned && Array.isArray(servers) && servers.length > 0) {
    const problem = "servers: a transparent listener goes to the servers that its clients ask for";
    return [{ path: [...path, "servers"], part: "value", problem, remedy: "leave servers out" }];
  }
  if (isLearned) return [];
  if (servers === undefined) {
    return [explainFault({ kind: "missing", remedy: serversExample }, [...path, "servers"])];
  }
  if (!Array.isArray(servers) || servers.length > 0) return [];
  const problem = "servers: the list is empty";
  return [{ path: [...path, "servers"], part: "value", problem, remedy: serversExample }];
}

function checkAdmin(admin: Mapping): Finding[] {
  const bind = parseAdminBind(admin.bind);
  if (!bind.ok || bind.value.kind === "unix" || isLoopback(bind.value.host) || admin.allowRemote === true)
    return [];
  return [
    {
      path: ["admin", "bind"],
      part: "value",
      problem: `bind: ${show(formatAdminBind(bind.value))} is not a loopback address, and the admin interface asks for no password`,
      remedy: `bind 127.0.0.1:${bind.value.port} or unix:/run/accelproxy.sock, or add allowRemote: true`,
    },
  ];
}

/** Indices of entries equal to an earlier one, each with the index of that first one. */
function findRepeats(entries: readonly (string | undefined)[]): { index: number; first: number }[] {
  const seen = new Map<string, number>();
  return entries.flatMap((entry, index) => {
    if (entry === undefined) return [];
    const first = seen.get(entry);
    if (first === undefined) seen.set(entry, index);
    return first === undefined ? [] : [{ index, first }];
  });
}

function asMapping(value: unknown): Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Mapping) : {};
}

function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
