/**
 * The nftables rules that bring connections to transparent listeners, as nft(8) text: one table of our own, made anew by each
 * apply, in one transaction. A listener has a chain for each hook it needs:
 *
 *   tproxy     prerouting (mangle) ─▶ SYN, not for this host ─▶ deny: return ─▶ allow: tproxy, mark
 *              output (route)      ─▶ the same for this host's own, marked: routed to lo, and so to prerouting
 *   redirect   prerouting, output (nat) ─▶ the same, redirect
 *   deliver    prerouting (before mangle) ─▶ of a socket of this host with an address of others: mark
 *
 * Only a SYN begins what is intercepted: all else belongs to a socket that is there, or to a connection that is none of
 * our business, as what others had open before, or the answers to what passes plainly.
 *
 * Packets with OWN_MARK, or that of the guard, are the proxy's own. Read nft(8), "TPROXY STATEMENT" and "SOCKET EXPRESSION",
 * and Documentation/networking/tproxy.rst first.
 */
import type { Target } from "../../config/networks.ts";
import type { Config, Listener } from "../../config/schema.ts";
import { FEED_MARK, GUARD_MARK } from "../../native/guard/ruleset.ts";
import { OWN_MARK, TPROXY_MARK } from "./marks.ts";

/** In each network namespace; family inet. */
export const INTERCEPT_TABLE = "accelproxy_intercept";
const TABLE = `inet ${INTERCEPT_TABLE}`;

/** Makes the table, or replaces it. */
export function interceptCommands(config: Config): string {
  const listeners = interceptedListeners(config);
  const hooks = HOOKS.map((hook) => hookCommands(hook, listeners)).join("");
  const deliver = deliveredFamilies(config).length > 0 ? DELIVER : "";
  return `add table ${TABLE}\ndelete table ${TABLE}\nadd table ${TABLE}\n${deliver}${hooks}`;
}

const FAMILIES = [4, 6] as const;

/** The families of packets that are delivered on this host although their address is another's. */
export function deliveredFamilies({ listeners, upstreams }: Config): readonly (4 | 6)[] {
  const ofClients = new Set(
    upstreams.filter(({ sourceAddress }) => sourceAddress === "client").map(({ name }) => name),
  );
  const users = listeners.filter(
    ({ mode, intercept: { method }, upstream }) =>
      (mode === "transparent" && method === "tproxy") || ofClients.has(upstream),
  );
  return FAMILIES.filter((family) => users.some(({ bind }) => bind.host.includes(":") === (family === 6)));
}

/** Deletes the table, whether or not there is one. */
export const REMOVE_COMMANDS = `add table ${TABLE}\ndelete table ${TABLE}\n`;

/** The listeners that take intercepted connections. Throws RangeError for a port that is chosen at the start. */
export function interceptedListeners({ listeners }: Config): readonly Listener[] {
  const found = listeners.filter(({ mode }) => mode === "transparent");
  const unknown = found.find(({ bind }) => bind.port === 0);
  if (unknown) throw new RangeError(`listener ${unknown.name} has port 0: rules need a port that is known`);
  return found;
}

const SYN = "tcp flags & (fin | syn | rst | ack) == syn";
const NOT_SYN = "tcp flags & (fin | syn | rst | ack) != syn return";
const HERE = "fib daddr type local return";

/**
 * A listener on every address is no reason: it is found for any address. Requests and TIME_WAIT have no such key, so
 * that the rule does not hold for them.
 */
const DELIVER = [
  `add chain ${TABLE} deliver { type filter hook prerouting priority mangle - 1 ; policy accept ; }`,
  ...[
    "meta l4proto != tcp return",
    `meta mark ${FEED_MARK} return`,
    `${SYN} return`,
    HERE,
    "socket wildcard 1 return",
  ].map((rule) => `add rule ${TABLE} deliver ${rule}`),
  `add rule ${TABLE} deliver socket transparent 1 meta mark set ${TPROXY_MARK} accept`,
  "",
].join("\n");

const TRIAL = `inet ${INTERCEPT_TABLE}_trial`;
const trial = (type: string, verdict: string): string =>
  `add table ${TRIAL}
add chain ${TRIAL} trial { type ${type} ; }
add rule ${TRIAL} trial meta nfproto ipv4 meta l4proto tcp tcp dport 1 ${verdict}
delete table ${TRIAL}
`;

/** Makes a rule of each method and deletes it, in one transaction: the kernel says whether it could. */
export const TRIALS: Readonly<Record<Listener["intercept"]["method"], string>> = {
  tproxy: trial(
    "filter hook prerouting priority mangle",
    "socket wildcard 0 socket transparent 1 ct mark 1 tproxy ip to :1",
  ),
  redirect: trial("nat hook prerouting priority dstnat", "redirect to :1"),
};

interface Hook {
  readonly name: string;
  readonly type: string;
  readonly method: Listener["intercept"]["method"];
  readonly traffic: "forwarded" | "local";
  /** Conditions under which the whole chain has nothing to do. */
  readonly except: readonly string[];
}

const OWN = `meta mark { ${OWN_MARK}, ${GUARD_MARK}, ${FEED_MARK} } return`;
const HOOKS: readonly Hook[] = [
  {
    name: "tproxy_forwarded",
    type: "filter hook prerouting priority mangle",
    method: "tproxy",
    traffic: "forwarded",
    except: [`meta mark ${TPROXY_MARK} return`, NOT_SYN, HERE],
  },
  {
    name: "tproxy_local",
    type: "filter hook prerouting priority mangle",
    method: "tproxy",
    traffic: "local",
    except: [`meta mark != ${TPROXY_MARK} return`, NOT_SYN],
  },
  {
    name: "mark_local",
    type: "route hook output priority mangle",
    method: "tproxy",
    traffic: "local",
    // What follows the SYN is told from what this host answers to others by connection tracking.
    except: [OWN, HERE, `ct mark ${TPROXY_MARK} meta mark set ${TPROXY_MARK} accept`, NOT_SYN],
  },
  {
    name: "redirect_forwarded",
    type: "nat hook prerouting priority dstnat",
    method: "redirect",
    traffic: "forwarded",
    except: [OWN, NOT_SYN, HERE],
  },
  {
    name: "redirect_local",
    type: "nat hook output priority -100",
    method: "redirect",
    traffic: "local",
    except: [OWN, NOT_SYN, HERE],
  },
];

function hookCommands(hook: Hook, listeners: readonly Listener[]): string {
  const users = listeners.filter(
    ({ intercept: { method, traffic } }) =>
      method === hook.method && (traffic === hook.traffic || traffic === "both"),
  );
  if (users.length === 0) return "";
  const chains = users.map((listener, index) => chainCommands(`${hook.name}_${index}`, hook, listener));
  const jumps = users.map(
    (listener, index) =>
      `add rule ${TABLE} ${hook.name} meta nfproto ${familyOf(listener).meta} jump ${hook.name}_${index}\n`,
  );
  const except = ["meta l4proto != tcp return", ...hook.except];
  return [
    ...chains,
    `add chain ${TABLE} ${hook.name} { type ${hook.type} ; policy accept ; }\n`,
    ...except.map((rule) => `add rule ${TABLE} ${hook.name} ${rule}\n`),
    ...jumps,
  ].join("");
}

function chainCommands(name: string, hook: Hook, listener: Listener): string {
  const { allow, deny } = listener;
  const verdict = verdictOf(hook, listener);
  const isOurs = ({ address }: Target) => address.includes(":") === listener.bind.host.includes(":");
  const rules = [
    ...deny.filter(isOurs).map((target) => `${matchOf(target)} return`),
    ...(allow.length === 0 ? [verdict] : []),
    ...allow.filter(isOurs).map((target) => `${matchOf(target)} ${verdict}`),
  ];
  return [`add chain ${TABLE} ${name}\n`, ...rules.map((rule) => `add rule ${TABLE} ${name} ${rule}\n`)].join(
    "",
  );
}

function verdictOf(hook: Hook, { bind }: Listener): string {
  if (hook.name === "mark_local") return `ct mark set ${TPROXY_MARK} meta mark set ${TPROXY_MARK}`;
  if (hook.method === "redirect") return `meta l4proto tcp redirect to :${bind.port}`;
  const { ip, any } = familyOf({ bind });
  const host = bind.host === any ? "" : bind.host.includes(":") ? `[${bind.host}]` : bind.host;
  return `meta l4proto tcp tproxy ${ip} to ${host}:${bind.port} meta mark set ${TPROXY_MARK} accept`;
}

function matchOf({ address, prefixLength, port }: Target): string {
  const network = `${address.includes(":") ? "ip6" : "ip"} daddr ${address}/${prefixLength}`;
  return port === null ? network : `${network} tcp dport ${port}`;
}

function familyOf({ bind: { host } }: Pick<Listener, "bind">) {
  return host.includes(":")
    ? ({ meta: "ipv6", ip: "ip6", any: "::" } as const)
    : ({ meta: "ipv4", ip: "ip", any: "0.0.0.0" } as const);
}
