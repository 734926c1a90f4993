import type * as z from "zod";
import type { Part, Path } from "./document.ts";
import { emptyFault, faultOf } from "./fields.ts";
import { type Fault, nearest, show } from "./problems.ts";
import { keysByPlace } from "./schema.ts";

/** A problem whose place is still a path: the part is that of ConfigDocument.locate. */
export type Finding = {
  readonly path: Path;
  readonly part: Part;
  readonly problem: string;
  readonly remedy: string;
};

const listenersExample = `write "listeners: [{ name: web, bind: 127.0.0.1:8001, upstream: origin }]"`;
const upstreamsExample = `write "upstreams: { origin: { servers: [{ address: 10.0.0.7:8080 }] } }"`;
const certificateExample = `write "tls: [{ cert: site.pem, key: site.key }]"`;
const routeExample = `write "routes: [{ pathPrefix: /api, upstream: api }]"`;
export const serversExample = `write "servers: [{ address: 10.0.0.7:8080 }]"`;

// What to write where a mapping or a list is expected, by place as in keysByPlace.
const collectionRemedies: Readonly<Record<string, string>> = {
  "": "begin with listeners: and upstreams:",
  listeners: listenersExample,
  "listeners[]": `write "- { name: web, bind: 127.0.0.1:8001, upstream: origin }"`,
  upstreams: upstreamsExample,
  "upstreams.*": serversExample,
  "upstreams.*.servers": serversExample,
  "upstreams.*.servers[]": `write "- address: 10.0.0.7:8080"`,
  "upstreams.*.pool": `write "pool: { min: 2, max: 32 }", or leave it out`,
  "upstreams.*.health": `write "health: { interval: 5s }", or leave it out`,
  "upstreams.*.tls": `write "tls: {}", or leave it out for plain connections`,
  "listeners[].proxyProtocol": `write "proxyProtocol: { accept: v2, from: [10.0.0.0/8] }", or leave it out`,
  "listeners[].proxyProtocol.from": `write "from: [10.0.0.0/8]"`,
  "listeners[].tls": certificateExample,
  "listeners[].tls[]": certificateExample,
  "listeners[].tls[].names": `write "names: [example.com]", or leave it out: the certificate has names`,
  "listeners[].routes": routeExample,
  "listeners[].routes[]": routeExample,
  "listeners[].allow": `write "allow: [10.0.0.0/8:443]"`,
  "listeners[].deny": `write "deny: [10.0.0.0/8:22]"`,
  "listeners[].intercept": `write "intercept: { method: tproxy, traffic: forwarded }", or leave it out`,
  "upstreams.*.learned": `write "learned: { destinations: 256 }", or leave it out`,
  admin: `write "admin: { bind: unix:/run/accelproxy.sock }", or leave it out`,
  log: `write "log: { level: info }", or leave it out`,
};

/** Turns what the schema found into findings in the words of the configuration file. */
export function explainIssue(issue: z.core.$ZodIssue, value: unknown): Finding[] {
  const path = issue.path.map((step) => (typeof step === "number" ? step : String(step)));
  const fault = faultOf(issue);
  if (fault !== undefined) return [explainFault(fault, path)];
  const place = placeOf(path);
  const remedy = collectionRemedies[place] ?? "see the list of keys in the documentation";
  if (issue.code === "unrecognized_keys") return issue.keys.map((key) => explainUnknownKey(key, path));
  if (issue.code === "too_small") {
    return [{ path, part: "value", problem: `${nameOf(path)}: the list is empty`, remedy }];
  }
  if (issue.code === "invalid_type") {
    const found = valueAt(value, path);
    if (found === undefined) return [explainFault({ kind: "missing", remedy }, path)];
    if (found === null) return [explainFault(emptyFault(remedy), path)];
    const wanted = issue.expected === "array" ? "a list" : "a mapping";
    return [{ path, part: "value", problem: `${nameOf(path)}: ${show(found)} is not ${wanted}`, remedy }];
  }
  throw new Error(`the schema reports ${issue.code}, which has no explanation`);
}

/** Puts a fault of the value at `path` into a sentence. */
export function explainFault(fault: Fault, path: Path): Finding {
  const name = nameOf(path);
  const { remedy } = fault;
  switch (fault.kind) {
    case "missing":
      return { path: path.slice(0, -1), part: "key", problem: `${name} is missing`, remedy };
    case "bad":
      return { path, part: "value", problem: `${name}: ${fault.problem}`, remedy };
  }
}

function explainUnknownKey(key: string, path: Path): Finding {
  const place = placeOf(path);
  const keys = keysByPlace.get(place) ?? [];
  const finding = {
    path: [...path, key],
    part: "key",
    problem: `unknown key ${show(key)}${placeNames[place] ?? ""}`,
  } as const;
  const near = nearest(key, keys);
  if (near !== undefined) return { ...finding, remedy: `did you mean ${near}?` };
  // The few keys of a small mapping say more than a namesake in another corner of the file.
  const reach = [...keysByPlace].filter(([other]) => keys.length > 4 || place.startsWith(other));
  const home = reach.find(([, itsKeys]) => itsKeys.includes(key))?.[0];
  if (home === undefined) return { ...finding, remedy: `the keys here are ${keys.join(", ")}` };
  return { ...finding, remedy: `it belongs${placeNames[home] ?? " at the top level"}` };
}

const placeNames: Readonly<Record<string, string>> = {
  "listeners[]": " in a listener",
  "listeners[].proxyProtocol": " in proxyProtocol",
  "listeners[].tls[]": " in a certificate",
  "listeners[].routes[]": " in a route",
  "listeners[].intercept": " in intercept",
  "upstreams.*": " in an upstream",
  "upstreams.*.servers[]": " in a server",
  "upstreams.*.pool": " in pool",
  "upstreams.*.health": " in health",
  "upstreams.*.learned": " in learned",
  "upstreams.*.tls": " in the tls of an upstream",
  admin: " in admin",
  log: " in log",
};

/** The path as the documentation writes it: `listeners[]` for any entry, `upstreams.*` for any name. */
function placeOf(path: Path): string {
  return path
    .map((step, i) => {
      if (typeof step === "number") return "[]";
      if (i === 0) return step;
      return i === 1 && path[0] === "upstreams" ? ".*" : `.${step}`;
    })
    .join("");
}

/** The last key of a path as a sentence names it: `bind`, `listeners[0]`, `upstreams.origin`. */
function nameOf(path: Path): string {
  const last = path.at(-1);
  if (last === undefined) return "the file";
  if (typeof last === "number") return `${path.at(-2) ?? ""}[${last}]`;
  return path.length === 2 && path[0] === "upstreams" ? `upstreams.${last}` : last;
}

function valueAt(value: unknown, path: Path): unknown {
  let at = value;
  for (const step of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, step)) return undefined;
    at = (at as Readonly<Record<string | number, unknown>>)[step];
  }
  return at;
}
